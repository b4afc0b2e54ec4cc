/** What a person can do about a refusal, where more than one protocol gives it. */

export const LOWER_PORTS_ADVICE =
  'The gateway may not give out ports below 1024: allow it in its settings, or map a higher external port, such as 8443:443.';

export const OTHER_PORT_ADVICE =
  'Leave out --exact to take another external port, or write *:PORT to let the gateway choose.';

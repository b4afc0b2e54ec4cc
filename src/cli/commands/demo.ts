/** `natward demo`: each step is shown as it happens. */

import { type DemoStep, runDemo } from '../../control/demo.ts';
import { print, printJson, printStep } from '../output.ts';

export async function run(flags: { readonly json?: true }, signal: AbortSignal): Promise<void> {
  const steps: DemoStep[] = [];
  await runDemo(signal, (step) => {
    steps.push(step);
    if (!flags.json) printStep(step);
  });
  if (flags.json) printJson({ steps: steps.map(({ via, ...step }) => ({ ...step, via: via ?? null })) });
  else print('everything was released; nothing of the demo is left');
}

/** The property list by which macOS runs the agent for a user, as text. Pure. */

import { NatwardError } from '../../errors.ts';

export const AGENT_LABEL = 'io.github.natward.agent';

export interface PlistSettings {
  /** Absolute paths: the interpreter, then the program. */
  readonly command: readonly [string, string];
  readonly logFile: string;
}

/** Throws USAGE where a path cannot stand in a property list. */
export function launchdPlist({ command, logFile }: PlistSettings): string {
  const words = [...command, 'agent'].map((word) => `    <string>${escaped(word)}</string>`);
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">',
    '<!-- Written by natward service install; natward service uninstall removes it. -->',
    '<plist version="1.0">',
    '<dict>',
    '  <key>Label</key>',
    `  <string>${AGENT_LABEL}</string>`,
    '  <key>ProgramArguments</key>',
    '  <array>',
    ...words,
    '  </array>',
    '  <key>RunAtLoad</key>',
    '  <true/>',
    '  <key>KeepAlive</key>',
    '  <dict>',
    '    <key>SuccessfulExit</key>',
    '    <false/>',
    '  </dict>',
    '  <key>ExitTimeOut</key>',
    '  <integer>10</integer>',
    '  <key>Umask</key>',
    '  <integer>63</integer>',
    '  <key>StandardOutPath</key>',
    `  <string>${escaped(logFile)}</string>`,
    '  <key>StandardErrorPath</key>',
    `  <string>${escaped(logFile)}</string>`,
    '</dict>',
    '</plist>',
    '',
  ].join('\n');
}

function escaped(text: string): string {
  if (/\p{Cc}/u.test(text)) {
    throw new NatwardError(
      'USAGE',
      `${JSON.stringify(text)} cannot stand in a property list: it holds a control character`,
    );
  }
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

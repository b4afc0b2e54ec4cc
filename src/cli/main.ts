/** The program `natward`: reads the command line, runs one command, and turns what it throws into words and an exit code. */

import { Command, CommanderError, Option } from 'commander';
import { isNatwardError, NatwardError } from '../errors.ts';
import { EXIT, exitCodeOf } from './exit.ts';
import {
  parseDescription,
  parseEngine,
  parseGateway,
  parseLifetime,
  parseLines,
  parseMac,
  parseTimeout,
  parseVia,
} from './options.ts';
import { printError, write } from './output.ts';

/** Replaced by the bundler with package.json's. */
declare const NATWARD_VERSION: string;

const SPEC =
  'EXTERNAL:HOST:PORT/PROTOCOL, of which only PORT is needed: 8080, 443:8443, *:6881/tcp+udp, 6000-6010/udp';
const DEFAULT_LIFETIME = '2h';
const DEFAULT_TIMEOUT = '5s';

/** Runs the command in `argv` (as process.argv) and sets the process's exit code. */
export async function main(argv: readonly string[]): Promise<void> {
  const interrupt = new AbortController();
  const stop = () => interrupt.abort();
  process.once('SIGINT', stop).once('SIGTERM', stop);
  try {
    process.exitCode = EXIT.done;
    await program(interrupt.signal).parseAsync([...argv]);
  } catch (error) {
    process.exitCode = report(error, interrupt.signal);
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop);
  }
}

function report(error: unknown, signal: AbortSignal): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
  if (signal.aborted) return EXIT.interrupted;
  if (isNatwardError(error)) {
    printError(error);
    return exitCodeOf(error);
  }
  const what = error instanceof Error ? error.message : String(error);
  printError(
    new NatwardError('FAILED', `an error that natward did not expect: ${what}`, {
      advice: 'Please report it, with the command that you ran.',
    }),
  );
  return EXIT.failed;
}

function program(signal: AbortSignal): Command {
  const natward = new Command('natward')
    .description('Finds the gateway, maps ports over PCP, NAT-PMP and UPnP IGD, and keeps them open.')
    .version(NATWARD_VERSION)
    .exitOverride()
    .configureOutput({
      writeOut: write,
      outputError: (text, write) => write(text.replace(/^error: /, 'natward: ')),
    });

  asking(natward.command('map'))
    .summary('map ports and exit')
    .description(`Asks the gateway for mappings and prints what was granted.\n\nSPEC is ${SPEC}.`)
    .argument('<spec...>', 'what to map')
    .addOption(lifetimeOption())
    .option('--description <text>', 'what the gateway shows for it', parseDescription)
    .option('--exact', 'this external port or none')
    .action(async (specs, flags) => (await import('./commands/map.ts')).run(specs, flags, signal));

  asking(natward.command('unmap'))
    .summary('take mappings back')
    .description(`Takes back what natward mapped on this host.\n\nSPEC is ${SPEC}.`)
    .argument('<spec...>', 'what to take back')
    .option('--force', 'take back also what somebody else mapped, where the gateway allows it')
    .action(async (specs, flags) => (await import('./commands/unmap.ts')).run(specs, flags, signal));

  asking(natward.command('list'))
    .description('Shows the mapping table of the gateway, with the rows that natward made here marked "own".')
    .action(async (flags) => (await import('./commands/list.ts')).run(flags, signal));

  asking(natward.command('gateway'))
    .description('Shows the gateways found, what they speak, and whether the internet can reach them.')
    .action(async (flags) => (await import('./commands/gateway.ts')).run(flags, signal));

  asking(natward.command('address'))
    .description('Prints the external address and nothing else.')
    .action(async (flags) => (await import('./commands/address.ts')).run(flags, signal));

  asking(natward.command('keep'))
    .summary('keep ports open')
    .description(
      `Keeps ports open: hands them to the running agent; without one, keeps them in this terminal until Ctrl-C and then releases them.\n\nSPEC is ${SPEC}.`,
    )
    .argument('<spec...>', 'what to keep open')
    .addOption(lifetimeOption())
    .option('--description <text>', 'what the gateway shows for it', parseDescription)
    .option('--exact', 'this external port or none')
    .option('-4, --ipv4', 'the IPv4 mapping alone')
    .option('-6, --ipv6', 'the IPv6 pinhole alone')
    .option('--run <program>', 'run it when something happens to the lease', gather)
    .option('--shell <line>', 'the same, by the shell', gather)
    .option('--webhook <url>', 'POST what happens there', gather)
    .option('--sync <client=url>', 'tell qbittorrent, transmission or deluge the port', gather)
    .option('--dyndns <hostname=url>', 'tell a name service the address', gather)
    .addOption(engineOption(WITHOUT_AGENT))
    .action(async (specs, flags) =>
      (await import('./commands/keep.ts')).run(NATWARD_VERSION, specs, flags, signal),
    );

  natward
    .command('drop')
    .summary('stop keeping, and release')
    .description('Has the running agent stop keeping a SPEC, or what natward status shows by an ID.')
    .argument('<spec|id...>', 'what to drop')
    .option('--json', 'print one JSON document')
    .action(async (texts, flags) => (await import('./commands/drop.ts')).run(texts, flags, signal));

  natward
    .command('status')
    .description('Shows what the running agent keeps, and how it stands.')
    .option('--watch', 'stay, and show what happens')
    .option('--json', 'print one JSON document; with --watch one a line')
    .action(async (flags) => (await import('./commands/status.ts')).run(flags, signal));

  natward
    .command('agent')
    .description('Keeps leases in the background, until it is told to end. Ctrl-C or SIGTERM releases them.')
    .option('--config <file>', 'read this configuration file')
    .addOption(
      new Option('--on-exit <what>', 'what the end does with the mappings').choices(['release', 'keep']),
    )
    .addOption(engineOption('what carries the rules out'))
    .option(
      '--respond-on <interface>',
      'be the gateway (PCP, NAT-PMP, UPnP) of the hosts behind this interface, such as docker0; may be given several times',
      gather,
    )
    .option('--json', 'print what happens as one JSON document a line')
    .action(async (flags) => (await import('./commands/agent.ts')).run(NATWARD_VERSION, flags, signal));

  rules(
    natward.command('rule').description('The rule table: which traffic, and what becomes of it.'),
    signal,
  );

  natward
    .command('apply')
    .summary('make the whole desired state true')
    .description(
      'Has the running agent keep and steer just what FILE says (TOML or JSON; - is stdin); without one, does so in this terminal until Ctrl-C.',
    )
    .argument('<file>', 'what is wanted')
    .option('--dry-run', 'say what stays, drains and is cut, and do nothing')
    .option('--cut', 'end the conversations of rules that go or change')
    .addOption(engineOption(WITHOUT_AGENT))
    .option('--json', 'print one JSON document')
    .action(async (file, flags) =>
      (await import('./commands/apply.ts')).run(NATWARD_VERSION, file, flags, signal),
    );

  natward
    .command('export')
    .description('Prints what the running agent keeps and steers for this user, as apply reads it.')
    .option('--json', 'print one JSON document')
    .action(async (flags) => (await import('./commands/export.ts')).run(flags));

  natward
    .command('import')
    .summary('add the rules of another program')
    .description(
      'Adds the rules of FILE: rinetd.conf, what netsh interface portproxy dump prints, an ssh command line with -L, or what natward export prints.',
    )
    .argument('<file>', 'whose rules; - is stdin')
    .option('--dry-run', 'say what would be added, and do nothing')
    .addOption(engineOption(WITHOUT_AGENT))
    .option('--json', 'print one JSON document')
    .action(async (file, flags) =>
      (await import('./commands/import.ts')).run(NATWARD_VERSION, file, flags, signal),
    );

  const service = natward.command('service').description('Runs the agent at boot.');
  const serviceCommand = (name: 'install' | 'uninstall' | 'status' | 'logs', summary: string) =>
    service
      .command(name)
      .description(summary)
      .option('--user', 'for this user, also where root asks')
      .action(async (flags) => (await import('./commands/service.ts'))[name](flags));
  serviceCommand('install', 'Writes what the service manager needs, and starts the agent.');
  serviceCommand('uninstall', 'Stops the agent, and removes what was written.');
  serviceCommand('status', 'Shows how the service does.').option('--json', 'print one JSON document');
  serviceCommand('logs', 'Shows what the agent has said.')
    .option('-n, --lines <count>', 'the last so many lines', parseLines)
    .option('-f, --follow', 'stay, and show what comes');

  natward
    .command('mac')
    .summary("show or change adapters' MAC addresses")
    .description(
      'Shows, changes and restores the MAC addresses of network adapters, and remembers the original.',
    )
    .argument('[adapter]', 'as natward mac shows it; all of them where none is named')
    .addOption(changing('--set <address>', 'give it this address').argParser(parseMac))
    .addOption(changing('--random', 'give it a random one, with the prefix of a real vendor'))
    .option('--vendor <name>', 'with --random: whose prefix; else of the vendor of now')
    .addOption(changing('--restore', 'give it its original address'))
    .option('--json', 'print one JSON document')
    .action(async (adapter, flags) => (await import('./commands/mac.ts')).run(adapter, flags));

  natward
    .command('demo')
    .description('Runs the whole road on loopback against an embedded gateway: no router and no root needed.')
    .option('--json', 'print one JSON document')
    .action(async (flags) => (await import('./commands/demo.ts')).run(flags, signal));

  return natward;
}

/** The commands of the rule table. A rule is named by its id, or by its place from the top. */
function rules(rule: Command, signal: AbortSignal): void {
  const command = (name: string, description: string) =>
    rule.command(name).description(description).option('--json', 'print one JSON document');
  const editing = (name: string, description: string) =>
    command(name, description)
      .option('--dry-run', 'say what would happen, and do nothing')
      .option('--cut', 'end the conversations of rules that go or change');
  const load = () => import('./commands/rule.ts');

  editing('add', 'Adds a rule. Without an agent it runs in this terminal until Ctrl-C.')
    .argument('<rule>', "as one line: 'in tcp 80 -> 192.168.1.8:8080'")
    .option('--description <text>', 'what it is for')
    .option('--id <id>', 'what it is called')
    .option('--before <rule>', 'above this one; else at the end')
    .option('--disabled', 'not carried out until it is enabled')
    .addOption(engineOption(WITHOUT_AGENT))
    .action(async (text, flags) => (await load()).add(NATWARD_VERSION, text, flags, signal));
  command('list', 'Shows the table, from the top: the first rule that matches decides.').action(
    async (flags) => (await load()).list(flags),
  );
  command('show', 'Shows one rule and its conversations.')
    .argument('<rule>', 'its id or place')
    .option('--watch', 'stay, and show what happens to its conversations')
    .action(async (name, flags) => (await load()).show(name, flags, signal));
  editing('edit', 'Changes what a rule says. Its conversations go on under the old one.')
    .argument('<rule>', 'its id or place')
    .argument('[text]', 'what it is to say')
    .option('--description <text>', 'what it is for')
    .action(async (name, text, flags) => (await load()).edit(name, text, flags));
  for (const verb of ['enable', 'disable', 'remove'] as const) {
    editing(verb, VERBS[verb])
      .argument('<rule...>', 'ids or places')
      .action(async (names, flags) => (await load()).change({ kind: verb, names }, flags));
  }
  editing('move', 'Moves a rule.')
    .argument('<rule>', 'its id or place')
    .option('--before <rule>', 'above this one; else to the end')
    .action(async (name, flags) =>
      (await load()).change({ kind: 'move', name, before: flags.before }, flags),
    );
  for (const what of ['panic', 'resume'] as const) {
    command(what, PAUSES[what]).action(async (flags) => (await load()).pause(what, flags));
  }
  command('explain', 'Says which rule decides, and why those above it do not.')
    .argument('<protocol>', 'tcp or udp')
    .argument('<source>', 'who sends: ADDRESS or ADDRESS:PORT')
    .argument('<destination>', 'where to: ADDRESS:PORT')
    .option('--out', 'it is sent by this host')
    .option('--adapter <name>', 'it comes in, or goes out, by this interface')
    .action(async (protocol, source, destination, flags) =>
      (await load()).explain(protocol, source, destination, flags),
    );
}

const VERBS = {
  enable: 'Has rules carried out again.',
  disable: 'Has rules not carried out, and keeps them in the table.',
  remove: 'Removes rules.',
} as const;

const WITHOUT_AGENT = 'what carries the rules out where no agent runs';

const PAUSES = {
  panic: 'Stops all rules at once and ends their conversations; they stay off until natward rule resume.',
  resume: 'Has the rules carried out again after natward rule panic.',
} as const;

function engineOption(about: string): Option {
  return new Option('--engine <name>', `${about}: auto, relay or nftables`).argParser(parseEngine);
}

function lifetimeOption(): Option {
  return new Option('--lifetime <duration>', 'how long the gateway is to keep it: 90s, 30m, 2h, 7d')
    .argParser(parseLifetime)
    .default(parseLifetime(DEFAULT_LIFETIME), DEFAULT_LIFETIME);
}

/** An option of `natward mac` that changes an address: one at a time. */
function changing(flags: string, description: string): Option {
  const option = new Option(flags, description);
  return option.conflicts(['set', 'random', 'restore'].filter((name) => name !== option.attributeName()));
}

/** For an option that may be given several times. */
function gather(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

function asking(command: Command): Command {
  return command
    .option('--via <protocol>', 'speak only pcp, natpmp or upnp', parseVia)
    .option('--gateway <address>', 'ask this gateway and no other', parseGateway)
    .option('--interface <name>', 'ask on this network interface only')
    .addOption(
      new Option('--timeout <duration>', 'give up when nothing has happened for so long')
        .argParser(parseTimeout)
        .default(parseTimeout(DEFAULT_TIMEOUT), DEFAULT_TIMEOUT),
    )
    .option('--json', 'print one JSON document');
}

/** A progress bar on a terminal; nothing anywhere else, and nothing for work that is done at a glance. */

interface ProgressBar {
  readonly update: (done: number, total: number) => void;
  /** Resolves when it is off the screen: what is printed next has a line of its own. */
  readonly stop: () => Promise<void>;
}

const WORTH_SHOWING = 50;

export function progressBar(label: string): ProgressBar {
  let bar: Promise<{ update(done: number): void; stop(): void }> | undefined;
  return {
    update(done, total) {
      if (total < WORTH_SHOWING || !process.stderr.isTTY) return;
      bar ??= import('cli-progress').then(({ default: { SingleBar } }) => {
        const single = new SingleBar({
          format: `${label} {bar} {value}/{total}`,
          clearOnComplete: true,
          hideCursor: true,
        });
        single.start(total, 0);
        return single;
      });
      void bar.then((single) => single.update(done));
    },
    async stop() {
      (await bar)?.stop();
    },
  };
}

/** What there is to be told to subscribers: that something changed. What it is now is read when they are told. */

export class EventSource {
  #systemUpdateId = 0;
  #listener: () => void = () => undefined;

  /** Rises with each change of the table of mappings (WANIPConnection:2, section 2.2.23). */
  get systemUpdateId(): number {
    return this.#systemUpdateId;
  }

  /** A mapping came, went, or leads elsewhere. A longer life alone is no change. */
  tableChanged(): void {
    this.#systemUpdateId = (this.#systemUpdateId + 1) % 2 ** 32;
    this.#listener();
  }

  /** Another value may be another one: the external address, the state of the connection. */
  changed(): void {
    this.#listener();
  }

  /** Whoever tells them: there is one. */
  onChange(listener: () => void): void {
    this.#listener = listener;
  }
}

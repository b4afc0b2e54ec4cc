/** What a quirk's hooks may use of the embedded gateway. */

import type { Grants } from '../grants.ts';
import type { HttpSide } from '../http.ts';
import type { Pinholes } from '../pinholes.ts';
import type { Site } from '../site.ts';

/** With a table of its own. */
export interface EmbeddedSite extends Site {
  readonly grants: Grants;
  readonly pinholes: Pinholes;
}

export interface Inside {
  readonly site: EmbeddedSite;
  readonly http: HttpSide;
}

/** What a quirk's hooks may use of the gateway. */

import type { HttpSide } from '../http.ts';
import type { Site } from '../site.ts';

export interface Inside {
  readonly site: Site;
  readonly http: HttpSide;
}

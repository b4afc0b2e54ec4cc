/**
 * qBittorrent's port, by its Web API v2 (github.com/qbittorrent/qBittorrent/wiki: WebUI API). Sets the port
 * alone: whether qBittorrent maps ports itself (its `upnp`) is the person's choice.
 */

import * as v from 'valibot';
import { NatwardError } from '../../../errors.ts';
import type { WebResponse } from '../../../system/web.ts';
import { bare, below, checkStatus, readJson, type Service } from '../service.ts';

const preferences = v.object({ listen_port: v.number() });

/** Throws where the port does not hold afterwards. */
export async function setQbittorrentPort(service: Service, url: string, port: number): Promise<void> {
  const site = bare(url);
  // Calls from another site's pages are refused; these two headers say where the caller belongs.
  const headers = {
    Origin: site.origin,
    Referer: `${site.origin}/`,
    'Content-Type': 'application/x-www-form-urlencoded',
  };
  const post = (method: string, fields: Readonly<Record<string, string>>): Promise<WebResponse> =>
    service.ask({
      method: 'POST',
      url: below(site, `api/v2/${method}`),
      headers,
      body: new URLSearchParams(fields).toString(),
    });

  const { username, password } = new URL(url);
  // Without a user: qBittorrent can be told to trust this host.
  if (username !== '') {
    const answer = await post('auth/login', {
      username: decodeURIComponent(username),
      password: decodeURIComponent(password),
    });
    // Before 5.2 a wrong password is 200 "Fails.", and a right one 200 "Ok.".
    if (answer.body.trim() === 'Fails.') throw unknownUser();
    checkStatus(answer);
  }
  // A port that was random at each start would be another one after the next.
  checkStatus(
    await post('app/setPreferences', { json: JSON.stringify({ listen_port: port, random_port: false }) }),
  );
  const answer = await service.ask({ method: 'GET', url: below(site, 'api/v2/app/preferences'), headers });
  checkStatus(answer);
  const { listen_port: actual } = readJson(preferences, answer.body);
  if (actual !== port) throw new NatwardError('REFUSED', `it stays at port ${actual}`);
}

function unknownUser(): NatwardError {
  return new NatwardError('NOT_AUTHORIZED', 'it does not know this user and password', {
    advice: 'Put its web interface’s user and password into the URL; after five failures it bans the caller.',
  });
}

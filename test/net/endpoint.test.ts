import { expect, test } from 'vitest';
import { formatEndpoint } from '../../src/net/endpoint.ts';

test('formatEndpoint() writes address and port as a URL does', () => {
  expect(formatEndpoint({ address: '192.0.2.1', port: 80 })).toBe('192.0.2.1:80');
  expect(formatEndpoint({ address: '2001:db8::1', port: 80 })).toBe('[2001:db8::1]:80');
});

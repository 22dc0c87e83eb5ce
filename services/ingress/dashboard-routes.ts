/** The dashboard: three static files, read once. It asks the same routes as everybody, with the same keys. */
import { readFileSync } from 'node:fs';
import { countAnswer, type Routes } from './room.ts';

const FILES: readonly (readonly [path: string, file: string, type: string])[] = [
  ['/', 'index.html', 'text/html; charset=utf-8'],
  ['/dashboard/dashboard.css', 'dashboard.css', 'text/css; charset=utf-8'],
  ['/dashboard/dashboard.js', 'dashboard.js', 'text/javascript; charset=utf-8'],
];

/** Only its own files, in no frame: another page cannot make a person press its buttons. */
const POLICY =
  "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'";

export const dashboardRoutes: Routes = (app) => {
  for (const [path, file, type] of FILES) {
    const text = readFileSync(new URL(`./dashboard/${file}`, import.meta.url), 'utf8');
    app.get(path, { schema: { hide: true } }, (_request, reply) => {
      countAnswer('dashboard', 200);
      reply
        .headers({
          'content-type': type,
          'content-security-policy': POLICY,
          'x-content-type-options': 'nosniff',
          'referrer-policy': 'no-referrer',
        })
        .send(text);
    });
  }
};

/** `localhost` is two addresses, and what listens on several ports or in several threads shares one. */
export const listenHost = (host: string): string => (host === 'localhost' ? '127.0.0.1' : host);

export const listenUrl = (host: string, port: number): string =>
  `http://${host.includes(':') ? `[${host}]` : host}:${port}`;

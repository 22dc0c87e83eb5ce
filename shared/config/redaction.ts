/** Addresses as they may be printed and logged: without what lets their reader in. */

/** Up to the last @, since a password that was not encoded may hold one; a name without a password may be a token. */
const CREDENTIALS = /^([a-z][a-z0-9+.-]*:\/\/)(?:([^:@/]*):)?.*@/is;
const SECRET_PARAMETER = /([?&][^=&#]*(?:pass|secret|token|auth)[^=&#]*=)[^&#]*/gi;

export const withoutSecrets = (address: string): string =>
  address
    .replace(CREDENTIALS, (_, scheme: string, user: string | undefined) =>
      user === undefined ? `${scheme}***@` : `${scheme}${user}:***@`,
    )
    .replace(SECRET_PARAMETER, '$1***');

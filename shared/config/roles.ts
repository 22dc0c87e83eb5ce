/** The parts of a server that can be processes of their own, on one store. */
export type Role = 'ingress' | 'buffer' | 'worker';

export const ROLES: readonly Role[] = ['ingress', 'buffer', 'worker'];

/** The roles that a text such as `ingress,buffer` or `all` names; null when it names something else, or nothing. */
export const rolesOf = (text: string): ReadonlySet<Role> | null => {
  const names = text.split(',').map((name) => name.trim());
  if (names.includes('all')) return names.length === 1 ? new Set(ROLES) : null;
  const known = ROLES.filter((role) => names.includes(role));
  const isWhole = names.every((name) => ROLES.includes(name as Role));
  return isWhole && known.length > 0 ? new Set(known) : null;
};

/** Names of columns that hold hashes of passwords, without their case and their underscores. */
const names: ReadonlySet<string> = new Set([
  'encryptedpassword',
  'hash',
  'hashedpassword',
  'pass',
  'passhash',
  'passwd',
  'password',
  'passworddigest',
  'passwordhash',
  'pwd',
  'pwdhash',
  'pwhash',
  'userpassword',
])

const hashShape = /^\$(argon2id|argon2i|argon2d|2[abxy])\$/

/** Whether a column that no field takes seems to hold the hash of the user's password, by its name or its value. */
export function isHashLike(name: string, value: unknown): boolean {
  if (value === undefined || value === null || value === '') return false
  return names.has(name.toLowerCase().replaceAll(/[^a-z]/g, '')) || (typeof value === 'string' && hashShape.test(value))
}

/** What a hash is called in the summary of an import. */
export function kindOf(hash: string | null): string {
  if (hash === null) return 'none'
  return hash.startsWith('$argon2') ? (hash.split('$')[1] ?? '') : 'bcrypt'
}

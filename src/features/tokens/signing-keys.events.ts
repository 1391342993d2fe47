/** The events of signing keys: type → what the detail may hold. */
export const keyEvents = {
  'signing_key.rotated': ['kid'],
  'signing_key.retired': ['kid'],
} as const

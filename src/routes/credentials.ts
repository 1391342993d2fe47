import { Type } from 'typebox'

export const NewPassword = Type.String({
  format: 'password',
  maxLength: 1024,
  description: '8 to 128 characters; neither a common password nor your own name or address.',
  examples: ['correct horse battery staple'],
})
/** Longer than any password that can be set, because one that was brought along may be. */
export const Password = Type.String({
  format: 'password',
  maxLength: 1024,
  description: 'Compared exactly.',
  examples: ['correct horse battery staple'],
})
export const LoginName = Type.String({
  minLength: 1,
  maxLength: 254,
  description: 'E-mail address or username, without regard to case.',
  examples: ['ada@example.com'],
})
export const RefreshTokenText = Type.String({
  maxLength: 512,
  description: 'Opaque and single-use.',
  examples: ['lkr_AZo7kq0fdRqJp0mYc3vC5g.0.mJ3c9Xy0o6dS1wq8RkT2uV5zB7nF4hL0pQeG9aKiMsE'],
})
export const OneTimeToken = Type.String({
  maxLength: 512,
  description: 'From the link in the mail; works once.',
  examples: ['lko_mJ3c9Xy0o6dS1wq8RkT2uV5zB7nF4hL0pQeG9aKiMsE'],
})

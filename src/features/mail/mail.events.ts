/** The events of mails: type → what the detail may hold. */
export const mailEvents = {
  'mail.abandoned': ['template', 'error'],
} as const

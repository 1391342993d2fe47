interface Mail {
  readonly subject: (service: string) => string
  /** Of a mail with a link: what the link proves, the setting with its page, and how long it works. */
  readonly link?: {
    readonly purpose: string
    readonly page: 'passwordResetUrl' | 'emailVerifyUrl'
    readonly hours: number
  }
}

/** Every mail that there is, by the name of its files in `templates/`. */
export const mails = {
  'email-verify': {
    subject: (service) => `Confirm your e-mail address for ${service}`,
    link: { purpose: 'email_verify', page: 'emailVerifyUrl', hours: 24 },
  },
  'password-reset': {
    subject: (service) => `Set a new password for ${service}`,
    link: { purpose: 'password_reset', page: 'passwordResetUrl', hours: 1 },
  },
  'email-change': {
    subject: (service) => `Confirm your new e-mail address for ${service}`,
    link: { purpose: 'email_change', page: 'emailVerifyUrl', hours: 24 },
  },
  'password-changed': { subject: (service) => `Your password for ${service} was changed` },
  'email-changed': { subject: (service) => `Your e-mail address for ${service} was changed` },
} as const satisfies Record<string, Mail>

export type Template = keyof typeof mails
type Linked = Extract<(typeof mails)[Template], { readonly link: unknown }>

/** What a link can prove; the database keeps one of each for a user. */
export type OneTimePurpose = Linked['link']['purpose']

/** The link of a mail, if it has one. */
export function linkOf(template: Template): Mail['link'] {
  return (mails[template] as Mail).link
}

/** The mail whose link proves `purpose`, and how long the link works. */
export function mailOf(purpose: OneTimePurpose): { readonly template: Template; readonly hours: number } {
  for (const template of Object.keys(mails) as Template[]) {
    const link = linkOf(template)
    if (link?.purpose === purpose) return { template, hours: link.hours }
  }
  throw new Error(`no mail has a link for ${purpose}`)
}

import { group, oneOf, optional, setting, switchedOn, text } from '#src/settings.ts'
import { pageUrlFault, smtpUrlFault } from '#src/urls.ts'

const example =
  "Mail: smtps://user:password@mail.example.com and the sender's address. Without it mail is queued and not sent."

/** Who sends mails, by which server, and where their links lead. */
export const mailSettings = group(
  {
    serviceName: setting('SERVICE_NAME', text('Latchkey'), { says: 'the name in [mails](docs/mail.md)' }),
    smtpUrl: setting('SMTP_URL', optional(), {
      says: 'mail server: `smtp://user:password@host:587` or `smtps://…`',
      without: 'mail is printed; in production it waits',
      example,
      secret: true,
      fault: smtpUrlFault,
    }),
    from: setting('MAIL_FROM', optional('^[^\\s<>@]+@[^\\s<>@]+$'), {
      says: 'the address that mail comes from',
      without: 'required with `SMTP_URL`',
      example,
    }),
    /** `undefined`, as the next: the service's own pages. */
    passwordResetUrl: setting('PASSWORD_RESET_URL', optional(), {
      says: 'page of yours that a reset link leads to; `{token}` is replaced, or `?token=` added',
      without: "the service's own page",
      fault: pageUrlFault,
    }),
    emailVerifyUrl: setting('EMAIL_VERIFY_URL', optional(), {
      says: 'the same for links that confirm an address',
      without: "the service's own page",
      fault: pageUrlFault,
    }),
    requireVerifiedEmail: setting('REQUIRE_VERIFIED_EMAIL', oneOf(['off', 'login'], 'off'), {
      says: '`login`: no login before the address is confirmed',
      read: (value) => value === 'login',
    }),
    /** Whether this process sends what the outbox holds. */
    worker: switchedOn('MAIL_WORKER', { says: '`off`: this instance queues mail and does not send it' }),
  },
  ({ from, ...rest }, { production, faults, warnings }) => {
    if (rest.smtpUrl !== undefined && from === undefined)
      faults.push('MAIL_FROM: is required with SMTP_URL; it is the address that mail comes from')
    if (production && rest.smtpUrl === undefined) warnings.push('SMTP_URL: is not set; mail is kept, but not sent')
    return { ...rest, from: from ?? 'latchkey@localhost' }
  },
)

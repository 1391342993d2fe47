import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { writeLetter } from '#src/features/mail/letters.ts'
import { linkOf, mails, type Template } from '#src/features/mail/mails.ts'

describe('the HTML of a letter', () => {
  test('spells what stands in it so that no browser takes it for HTML', () => {
    const options = {
      serviceName: '<b>Fish & "Chips"</b>',
      passwordResetUrl: 'https://app.example.com/reset?a=1&token={token}',
      emailVerifyUrl: 'https://app.example.com/verify',
    }
    const mail = {
      messageId: '1',
      template: 'password-reset',
      recipient: 'ada@example.com',
      name: null,
      token: 'lko_x',
    } as const
    const { html, text } = writeLetter(options, mail)
    expect(html).not.toContain('<b>')
    expect(html).toContain('&#60;b&#62;Fish &#38; &#34;Chips&#34;')
    expect(html).toContain('href="https://app.example.com/reset?a=1&#38;token=lko_x"')
    expect(text).toContain('https://app.example.com/reset?a=1&token=lko_x')
  })
})

describe('docs/mail.md', () => {
  test('lists every mail with its subject and how long its link works', () => {
    const text = readFileSync(new URL('../../../docs/mail.md', import.meta.url), 'utf8')
    const real = Object.entries(mails).map(([name, { subject }]) => {
      const { hours } = linkOf(name as Template) ?? {}
      const works = hours === undefined ? '–' : hours === 1 ? '1 hour' : `${hours} hours`
      return `| \`${name}\` | ${subject('Latchkey')} | ${works} |`
    })
    expect(text.split('\n').filter((line) => /^\| `(email|password)-/.test(line))).toEqual(real)
  })
})

/** Nothing but our own style sheet: the text of these pages may come from strangers. */
const policy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** What the reply to a page without script says of itself. */
export const pageHeaders = { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': policy }

/** An HTML page; `root` is the way back to `/`, relative, because a proxy may have put a path in front. */
export function htmlPage(title: string, body: string, root = ''): string {
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <meta name="robots" content="noindex" />
    <title>${escapeHtml(title)}</title>
    <link rel="stylesheet" href="${root}account/account.css" />
  </head>
  <body>
    <main>
<h1>${escapeHtml(title)}</h1>
${body}
    </main>
  </body>
</html>
`
}

/** Text as it stands in HTML, between tags or in a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

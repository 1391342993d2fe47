import { recordKeyChange } from '#src/core/audit.ts'
import { publicationLeadSeconds } from '#src/core/key-ring.ts'
import { type Command, shell, UsageError, withApp } from './command.ts'

/** `keys list|rotate [--now]`: shows the signing keys, or publishes the next one. */
export const keys: Command = async (settled, [action, ...rest]) =>
  withApp(settled, async ({ core, keyRing }) => {
    if (action === 'list') {
      const lines = keyRing.keys.map(({ kid, algorithm, signsFrom, retired }) => {
        const state = retired ? 'verifies' : signsFrom > performance.now() ? 'next' : 'signs'
        return `${kid}  ${algorithm.padEnd(5)}  ${state}`
      })
      return lines.join('\n')
    }
    if (action !== 'rotate' || rest.some((word) => word !== '--now'))
      throw new UsageError('keys list | keys rotate [--now]')
    if (settled.config.algorithm === 'HS256')
      throw new UsageError('ALGORITHM=HS256 signs with SECRET_KEY; rotate that with SECRET_KEY_PREVIOUS')
    const leadSeconds = rest.includes('--now') ? 0 : publicationLeadSeconds
    await keyRing.rotate({ leadSeconds })
    const newest = keyRing.keys.find(({ algorithm, retired }) => algorithm === settled.config.algorithm && !retired)
    if (newest) await recordKeyChange(core, 'signing_key.rotated', newest.kid, shell)
    return `The next key is published and signs in ${leadSeconds / 60} minutes.`
  })

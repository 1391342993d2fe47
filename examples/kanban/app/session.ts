import { createClient } from '@latchkey/client'
import { useSyncExternalStore } from 'react'

const { searchParams } = new URL(location.href)

/** The one client of the app. Its refresh token is in an HttpOnly cookie; `?transport=storage` shows the other way. */
export const client = createClient({
  url: location.origin,
  transport: searchParams.get('transport') === 'storage' ? 'storage' : 'cookie',
})

export function useSession() {
  return useSyncExternalStore(client.onChange, client.getSnapshot)
}

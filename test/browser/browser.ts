import type { Page } from 'playwright-core'

/** What every driver can do with a tab. */
export type Tab = Pick<Page, 'evaluate' | 'waitForFunction' | 'goto' | 'close'>

export interface Browser {
  /** Tabs that share cookies and storage. */
  readonly open: () => Promise<{ tab: () => Promise<Tab>; close: () => Promise<unknown> }>
  readonly close: () => Promise<unknown>
  /** Freezes a tab as an operating system does that needs the memory, and thaws it. */
  readonly freeze?: (tab: Tab, isFrozen: boolean) => Promise<unknown>
}

/** What every contract is told; each takes from it what it needs. */
export interface ContractOptions {
  /** Cookies are for HTTPS only. */
  readonly secureCookies: boolean
  readonly issuer: string
  readonly audience: string
  /** Client id → secret. */
  readonly oauthClients: ReadonlyMap<string, string>
}

import { validateHeaderName, validateHeaderValue } from 'node:http'
import { group, listOf, oneOf, optional, setting, text } from '#src/settings.ts'
import { collectorUrlFault } from '#src/urls.ts'

/** By the names of OpenTelemetry. */
const samplers = ['parentbased_always_on', 'parentbased_traceidratio', 'always_on', 'traceidratio'] as const

/** Where traces go, and which requests are traced. */
export const traceSettings = group({
  endpoint: setting('OTEL_EXPORTER_OTLP_ENDPOINT', optional(), {
    says: 'sends [traces](docs/operations.md#traces) there: an OpenTelemetry collector that takes OTLP by HTTP, such as `http://collector:4318`',
    without: 'no traces',
    fault: collectorUrlFault,
  }),
  headers: setting('OTEL_EXPORTER_OTLP_HEADERS', optional(), {
    says: 'headers that the collector asks for: `name=value,name2=value2`, with `%XX` for special characters',
    secret: true,
    fault: (list) =>
      headersIn(list) ? undefined : 'must be name=value,name2=value2, special characters written as %XX',
    read: (list = '') => headersIn(list) ?? {},
  }),
  serviceName: setting('OTEL_SERVICE_NAME', text('latchkey'), { says: 'the name of the service in traces' }),
  sampler: setting('OTEL_TRACES_SAMPLER', oneOf(samplers, 'parentbased_always_on'), {
    says: 'which requests are traced: all (`always_on`) or a share of them (`traceidratio`); with `parentbased_` before it, as the `traceparent` of the caller says, where there is one',
  }),
  share: setting('OTEL_TRACES_SAMPLER_ARG', optional('^(0|1|0?\\.\\d+|1\\.0+)$'), {
    says: 'the share of `traceidratio`, from 0 to 1',
    without: '1',
    read: (share = '1') => Number(share),
  }),
})

/** The headers of a list; `undefined` when it holds something else. */
function headersIn(list: string): Readonly<Record<string, string>> | undefined {
  try {
    const headers = listOf(list).map((item) => {
      const [, name = '', value = ''] = /^([^=]+)=(.*)$/.exec(item) ?? []
      const header = [name.trim(), decodeURIComponent(value.trim())] as const
      validateHeaderName(header[0])
      validateHeaderValue(...header)
      return header
    })
    return Object.fromEntries(headers)
  } catch {
    return undefined
  }
}

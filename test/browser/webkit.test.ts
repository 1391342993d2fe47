import { browsers } from './browsers.ts'
import { tryCases } from './cases.ts'

tryCases(browsers[2])

import { group, setting, whole } from '#src/settings.ts'

/** What one password hash costs, and how many threads there are to compute it. */
export const passwordSettings = group(
  {
    memoryCost: setting('ARGON2_MEMORY_KIB', whole(19_456, 1_048_576, 19_456), {
      says: 'memory of one password hash, 19456 or more',
    }),
    timeCost: setting('ARGON2_TIME_COST', whole(2, 20, 2), { says: 'passes of one password hash, 2–20' }),
    threads: setting('UV_THREADPOOL_SIZE', whole(1, 1024, 4), {
      says: 'threads of Node, 1–1024; passwords are hashed on all but one ([sizing](docs/operations.md#sizing))',
    }),
  },
  (cost, { variables, warnings }) => {
    // libuv has read the variable before us, and takes no number for one thread.
    if (variables['UV_THREADPOOL_SIZE'] !== '') return cost
    warnings.push('UV_THREADPOOL_SIZE: is empty, so one thread does all work; unset it or give a number')
    return { ...cost, threads: 1 }
  },
)

import { accountMutants } from './accounts.ts'
import { edgeMutants } from './edge.ts'
import type { Mutant } from './mutant.ts'
import { rotationMutants } from './rotation.ts'
import { sessionMutants } from './sessions.ts'

export const mutants: readonly Mutant[] = [...rotationMutants, ...sessionMutants, ...accountMutants, ...edgeMutants]

import { readFileSync, writeFileSync } from 'node:fs'
import { exampleFile, readmeTable, tablePlace } from './documents.ts'

const readme = readFileSync('README.md', 'utf8')
writeFileSync('README.md', readme.replace(tablePlace, readmeTable))
writeFileSync('.env.example', exampleFile())

import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { RowReader } from '#src/cli/imported-user.ts'
import { columnsOf } from '#src/cli/columns.ts'
import { jsonRows, type Row } from '#src/cli/rows.ts'
import { sampled } from '#src/cli/sample.ts'

const rowsOf = (text: string) => jsonRows(Readable.from([Buffer.from(text)]))
const listOf = async (rows: AsyncIterable<Row>) => {
  const list: Row[] = []
  for await (const row of rows) list.push(row)
  return list
}
const line = (n: number) => `{"username":"user${n}"}\n`

describe('a file of JSON lines', () => {
  test('may begin with a byte order mark, which is no part of its first row', async () => {
    const rows = await listOf(rowsOf(`\uFEFF${line(1)}\uFEFF${line(2)}`))
    expect(rows).toEqual([
      { line: 1, values: { username: 'user1' } },
      { line: 2, reason: 'the line is not a JSON object' },
    ])
  })

  test('is looked at for 1,000 rows before the first is imported, and loses none by it', async () => {
    const text = Array.from({ length: 1001 }, (_, n) => line(n)).join('')
    const { sample, rows } = await sampled(rowsOf(text))
    expect([sample.length, sample.at(-1)]).toEqual([1000, { username: 'user999' }])
    expect((await listOf(rows)).map((row) => row.line)).toEqual(Array.from({ length: 1001 }, (_, n) => n + 1))
  })
})

describe('created_at', () => {
  const reader = new RowReader(columnsOf([]), { withoutPasswords: true })
  test.each([
    ['2021-03-04T05:06:07', '2021-03-04T05:06:07Z'],
    ['2021-03-04 05:06', '2021-03-04T05:06Z'],
    ['2021-03-04', '2021-03-04T00:00:00Z'],
    ['2021-03-04T05:06:07+02:00', '2021-03-04T05:06:07+02:00'],
  ])('%s is read as %s: without a zone it is of UTC', (created_at, moment) => {
    expect(reader.read({ username: 'ada', created_at }, 1)).toMatchObject({ created_at: moment })
  })
})

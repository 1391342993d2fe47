/** Shares one reading among all who ask, and keeps its answer, also a failure, for a second after it came. */
export function onceASecond<T>(read: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined
  let freshUntil = 0
  return () => {
    if (answer && performance.now() < freshUntil) return answer
    freshUntil = Infinity
    answer = read().finally(() => {
      freshUntil = performance.now() + 1000
    })
    return answer
  }
}

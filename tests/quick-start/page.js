// A web page in jsdom, for the quick start: the variables that an app has to provide, `fetch` with CORS, and a clock
// that moves only if a test says so.

import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { JSDOM } from 'jsdom'

if (!process.env.STACK) throw new Error('start the tests with ./run')
export const stack = JSON.parse(process.env.STACK)

export const { window } = new JSDOM('', { url: 'https://app.example' })
// Circle's SDK finds these as globals. Its timers, which run for ten seconds, must not keep the process running.
const { setTimeout: startTimer } = globalThis
Object.assign(globalThis, {
  window,
  document: window.document,
  setTimeout: (...timer) => startTimer(...timer).unref(),
})

export const API_URL = stack.api
export const CIRCLE_APP_ID = 'f1d2a3b4-0000-4000-8000-000000000001'
export const bearerToken = async () => page.token

/** The state of the page, which each test starts afresh. */
export const page = { token: '', requests: [], isOffline: false, pendingWait: null }

/** Waits until a condition is true, and returns its value. Fails after ten seconds. */
export async function until(condition) {
  for (let attempts = 0; attempts < 1000; attempts += 1) {
    const value = await condition()
    if (value) return value
    await sleep(10)
  }
  return assert.fail(`not true within 10 s: ${condition}`)
}

/** The simulator's control API, which acts for the user. */
export async function control(method, path, body) {
  const response = await globalThis.fetch(stack.control + path, { method, body: body && JSON.stringify(body) })
  const json = await response.json()
  assert.equal(response.status, 200, JSON.stringify(json))
  return json
}

/** `fetch` through jsdom's XMLHttpRequest, because that obeys CORS, while the `fetch` of Node.js does not. */
export async function fetch(url, { method, headers, body }) {
  if (page.isOffline) throw new TypeError('Failed to fetch')
  const request = new window.XMLHttpRequest()
  request.open(method, url)
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
  await new Promise((resolve, reject) => {
    request.onload = resolve
    request.onerror = () => reject(new TypeError('Failed to fetch'))
    request.send(body)
  })
  const lines = request.getAllResponseHeaders().trim().split('\r\n')
  const response = new Response(request.response, {
    status: request.status,
    headers: lines.map((line) => line.split(/: (.*)/, 2)),
  })
  const { pathname: path } = new URL(url)
  page.requests.push({ method, path, headers, response: response.clone() })
  return response
}

/** The quick start's `setTimeout`. Only `whileTimePasses` ends a wait. */
export function setTimeout(callback, milliseconds) {
  page.pendingWait = { callback, seconds: milliseconds / 1000 }
}

/**
 * Lets the page's waits pass, and moves the stack's clock by as much, until the promise is settled. Adds the waits to
 * `waited`, in seconds.
 */
export async function whileTimePasses(promise, waited = []) {
  let isSettled = false
  const settled = () => { isSettled = true }
  promise.then(settled, settled)
  while (await until(() => isSettled || page.pendingWait) !== true) {
    const { callback, seconds } = page.pendingWait
    page.pendingWait = null
    waited.push(seconds)
    assert.ok(waited.length < 300, 'the page waits without end')
    await control('POST', '/clock/advance', { seconds })
    callback()
  }
  return promise
}

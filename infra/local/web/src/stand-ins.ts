/** Stand-ins for the API, Circle's SDK and the browser, new for each test, and a clock that only tests move. */

import assert from 'node:assert/strict'
import { beforeEach } from 'node:test'
import { JSDOM } from 'jsdom'
import type { W3SSdk } from '@circle-fin/w3s-pw-web-sdk'
import { type Challenge, type Options, PinChange } from './pin-change.ts'

export const CHALLENGE_ID = 'c4d1da72-111e-4d52-bdbf-2e74a2d803d5'

/** Seconds, and what is due when. */
export const clock = {
  now: 0,
  timers: new Map<number, { at: number; run: () => void }>(),
  next: 1,
  /** Lets time pass, and whatever follows from each timer. */
  async advance(seconds: number) {
    const end = this.now + seconds
    for (;;) {
      await settled()
      const due = [...this.timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0]
      if (!due) break
      this.timers.delete(due[0])
      this.now = due[1].at
      due[1].run()
    }
    this.now = end
  },
}

const realSetImmediate = setImmediate
/** Waits until nothing is left to do without time passing. */
export const settled = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => realSetImmediate(resolve))
}

Object.assign(globalThis, {
  setTimeout: (run: () => void, milliseconds: number) => {
    clock.timers.set(clock.next, { at: clock.now + milliseconds / 1000, run })
    return clock.next++
  },
  clearTimeout: (timer: number) => clock.timers.delete(timer),
})
performance.now = () => clock.now * 1000
Date.now = () => clock.now * 1000

/** The record of the challenge, and how the API responds. */
export const api = {
  challenge: {} as Challenge,
  requests: [] as { method: string; path: string; headers: Record<string, string>; at: number }[],
  /** Responses that come first: a status with a body, or none, or one that breaks off. */
  first: [] as ('no response' | 'half a response' | { status: number; body?: object; retryAfter?: number })[],
  /** What a response waits for. */
  gate: undefined as Promise<void> | undefined,
  sessions: 0,
}

class Sdk {
  session?: { userToken: string }
  runs: { challengeId: string; userToken?: string }[] = []
  callback: (error?: { code: number; message: string }, result?: object) => void = () => {}
  forgotPin = () => {}

  setAuthentication(session: { userToken: string }) {
    this.session = session
  }

  setOnForgotPin(forgotPin: () => void) {
    this.forgotPin = forgotPin
  }

  execute(challengeId: string, callback: Sdk['callback']) {
    this.runs.push({ challengeId, userToken: this.session?.userToken })
    this.callback = callback
    const frame = document.createElement('iframe')
    frame.id = 'sdkIframe'
    frame.style.display = 'none'
    document.body.append(frame)
  }

  /** Circle's page asks the SDK to show it. */
  show() {
    document.querySelector<HTMLElement>('#sdkIframe')!.style.display = ''
  }

  complete() {
    document.querySelector('#sdkIframe')?.remove()
    this.callback(undefined, { status: 'COMPLETE' })
  }

  fail(code: number) {
    this.callback({ code, message: 'error' })
  }

  /** The user closes the page. The SDK does not call back. */
  close() {
    document.querySelector('#sdkIframe')?.remove()
  }
}

export const frameIsOpen = () => document.querySelector('#sdkIframe') !== null
export let sdk: Sdk
export let locks: Set<string>
/** The events that somebody listens to on the window, the document and the signals of the tests. */
export let listeners: string[]

/** Notes the listeners of `target`, except for those of jsdom itself. */
export function watched<T extends EventTarget>(target: T): T {
  const { addEventListener, removeEventListener } = target
  const own = ['visibilitychange', 'online', 'message', 'abort']
  const known = new Map<string, unknown>()
  target.addEventListener = (...parameters: Parameters<EventTarget['addEventListener']>) => {
    const [type, listener] = parameters
    if (own.includes(type)) listeners.push(type)
    known.set(type, listener)
    addEventListener.apply(target, parameters)
  }
  target.removeEventListener = (...parameters: Parameters<EventTarget['removeEventListener']>) => {
    const [type, listener] = parameters
    if (known.get(type) === listener && listeners.includes(type)) listeners.splice(listeners.indexOf(type), 1)
    removeEventListener.apply(target, parameters)
  }
  return target
}

beforeEach(() => {
  const { window } = new JSDOM('', { url: 'https://app.example' })
  const { document, localStorage, MutationObserver } = window
  locks = new Set()
  listeners = []
  watched(window)
  watched(document)
  const navigator = {
    locks: {
      async request(name: string, _: object, attempt: (lock: object | null) => Promise<unknown>) {
        if (locks.has(name)) return attempt(null)
        locks.add(name)
        return attempt({}).finally(() => locks.delete(name))
      },
    },
  }
  for (const [name, value] of Object.entries({ window, document, localStorage, MutationObserver, navigator, fetch })) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
  }
  clock.timers.clear()
  sdk = new Sdk()
  api.challenge = challenge('PENDING')
  Object.assign(api, { requests: [], first: [], gate: undefined, sessions: 0 })
})

export function challenge(status: string, more: Partial<Challenge> = {}): Challenge {
  const createdAt = '2026-01-01T12:00:00Z'
  return { challengeId: CHALLENGE_ID, type: 'CHANGE_PIN', status, createdAt, updatedAt: createdAt, ...more }
}

export const newSession = () => {
  api.sessions += 1
  return { userToken: `token-${api.sessions}`, encryptionKey: 'key', expiresAt: '2026-01-01T13:00:00Z' }
}

const fetch = async (url: string, { method, headers, signal }: RequestInit & { method: string }) => {
  signal?.throwIfAborted()
  const path = url.replace('https://api.example', '')
  api.requests.push({ method, path, headers: headers as Record<string, string>, at: clock.now })
  const first = api.first.shift()
  await api.gate
  signal?.throwIfAborted()
  if (first === 'no response') throw new TypeError('Failed to fetch')
  if (first === 'half a response') return new Response('{"challengeId":')
  if (first) return respond(first.status, first.body ?? {}, first.retryAfter)
  if (path === '/session-tokens') return respond(201, newSession())
  if (path === '/challenges') return respond(201, { ...api.challenge, session: newSession() }, 3)
  return respond(200, api.challenge, 3)
}

function respond(status: number, body: object, retryAfter?: number) {
  const headers = retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }
  return Response.json(body, { status, headers: headers as Record<string, string> })
}

export const client = (more: Partial<Options> = {}) =>
  new PinChange({
    apiUrl: 'https://api.example',
    userId: 'user-1',
    bearerToken: async () => 'bearer',
    sdk: sdk as unknown as W3SSdk,
    ...more,
  })

export const sent = () => api.requests.map(({ method, path }) => `${method} ${path}`)
export const POST = 'POST /challenges'
export const SESSION = 'POST /session-tokens'
export const POLL = `GET /challenges/${CHALLENGE_ID}`

/** Starts an attempt, with the frame open and ready. */
export async function started(pinChange = client(), signal?: AbortSignal) {
  const outcome = pinChange.start('CHANGE_PIN', signal)
  await settled()
  assert.ok(frameIsOpen())
  sdk.show()
  return { outcome }
}

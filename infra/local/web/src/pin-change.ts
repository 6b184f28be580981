/**
 * Changes or restores the PIN of the signed-in user's Circle wallet, and follows the challenge until it has ended.
 *
 * Copy this file into your app: it depends on Circle's Web SDK only. `docs/api.md` explains the rules that it follows.
 *
 *     const sdk = new W3SSdk({ appSettings: { appId } })
 *     const pinChange = new PinChange({ apiUrl, userId, bearerToken, sdk })
 *     const outcome = await pinChange.start('CHANGE_PIN')
 */

import type { W3SSdk } from '@circle-fin/w3s-pw-web-sdk'

export type ChallengeType = 'CHANGE_PIN' | 'RESTORE_PIN'

/** A challenge as the API returns it. The service may add properties, statuses and reasons. */
export interface Challenge {
  challengeId: string
  type: string
  /** `PENDING`, `IN_PROGRESS`, `COMPLETE`, `FAILED`, `EXPIRED`, or a status that does not exist yet. */
  status: string
  /** RFC 3339, as all times. */
  createdAt: string
  updatedAt: string
  /** When Circle last confirmed the status. */
  checkedAt?: string
  /** Why the challenge ended without success. `message` is a text for the user. */
  failure?: { reason: string; message: string; circleCode?: number; lockedUntil?: string }
  /** Why the service could not ask Circle for the status. */
  checkError?: { code: string; userMessage: string }
}

/** What Circle's SDK needs to run a challenge. Both values are secrets: never store them. */
export interface Session {
  userToken: string
  encryptionKey: string
  expiresAt: string
}

/** The state of the user's PIN. */
export interface Pin {
  /** `ENABLED`, `UNSET`, `LOCKED`, or a value that does not exist yet. */
  pinStatus: string | null
  lockedUntil?: string
  failedAttempts?: number
  securityQuestionStatus: string | null
  securityQuestionsLockedUntil?: string
  securityQuestionsFailedAttempts?: number
}

/** How an attempt ended for this page. */
export type Outcome =
  /** The challenge has a final status. Unless it is `COMPLETE`, show `challenge.failure.message`. */
  | { kind: 'ended'; challenge: Challenge }
  /** The user says that the PIN is forgotten. Offer `start('RESTORE_PIN')`. */
  | { kind: 'forgotPin'; challenge: Challenge }
  /** The user closed Circle's page. The challenge is still open, and `resume` goes on with it. */
  | { kind: 'closed'; challenge: Challenge }
  /** Circle's page did not open. The challenge is still open, and `resume` goes on with it. */
  | { kind: 'unreachable'; challenge: Challenge }
  /** Another attempt runs, in this page or in another tab of this browser. */
  | { kind: 'otherTab' }

/** A problem document. API Gateway's own errors have no `code`. */
interface Problem {
  code?: string
  userMessage?: string
  lockedUntil?: string
  requestId?: string
}

/** An error of the API. `message` is a text for the user. */
export class ApiError extends Error {
  /** The HTTP status, or 0 if there was no response. */
  readonly status: number
  readonly problem: Problem
  /** Seconds after which another attempt makes sense. */
  readonly retryAfter?: number

  constructor(status: number, problem: Problem = {}, retryAfter?: number, options?: ErrorOptions) {
    super(problem.userMessage ?? 'Something went wrong. Please try again later.', options)
    this.name = 'ApiError'
    this.status = status
    this.problem = problem
    this.retryAfter = retryAfter
  }

  /** Whether software may retry the request. All other errors are for the user to decide. */
  get isTemporary() {
    const lasts = ['challenges_stopped', 'misconfigured', 'internal'].includes(this.problem.code ?? '')
    const isRejection = this.problem.code === 'circle_error' && this.retryAfter === undefined
    return (this.status === 0 || this.status >= 500) && !lasts && !isRejection
  }
}

export interface Options {
  /** The base URL of the API, without a trailing slash. */
  apiUrl: string
  /** Any text that differs between the users of this browser. It names what this page stores. */
  userId: string
  /**
   * Returns your issuer's token for the signed-in user, renewed if it has expired. If the user has to sign in again,
   * throw `new ApiError(401)`. Any other error counts as a network error, and the call is retried.
   */
  bearerToken: () => Promise<string>
  /** The only `W3SSdk` object of the page. */
  sdk: W3SSdk
  /** Is called with each response about the challenge, for example to show its status. */
  onUpdate?: (challenge: Challenge) => void
}

/** How often a request that has failed for the moment is retried. */
const RETRIES = 5
/** How often a session may end during one attempt, before the user has to start again. */
const MAX_NEW_SESSIONS = 3
/** Circle's page is abandoned if the SDK does not show it within this time. */
const OPENING_LIMIT_SECONDS = 20
/** The SDK reports `NETWORK_ERROR` after ten seconds. Less time has passed if the timer is that of an earlier run. */
const SDK_TIMER_SECONDS = 9.9
/** The SDK's code if Circle's page does not load. */
const NETWORK_ERROR = 155706
/** Circle's codes for a user token that it does not know or that has expired. */
const SESSION_ENDED = [155103, 155104]
/** Circle's code for a challenge that needs the session that it was created with. */
const SESSION_MISMATCH = 155719
/** How long a session lasts. Older challenges and keys are not used again. */
const MAX_AGE_SECONDS = 3600

/** What is kept for a reload of the page. It has no secret in it. */
interface Stored {
  type: ChallengeType
  /** The `Idempotency-Key` of the challenge. */
  key: string
  /** Missing until the API has responded. */
  challengeId?: string
  /** When the user decided, in milliseconds. */
  at: number
}

/** Stands in for `localStorage` if the browser blocks it. A reload then forgets the challenge. */
const memory = new Map<string, Stored>()

/** The attempt that runs with the page's SDK object. One that was aborted needs a moment to end. */
const running = new WeakMap<W3SSdk, { signal?: AbortSignal; ended: Promise<unknown> }>()

export const isFinal = ({ status }: Challenge) => ['COMPLETE', 'FAILED', 'EXPIRED'].includes(status)

export class PinChange {
  private readonly options: Options

  constructor(options: Options) {
    this.options = options
  }

  /** The state of the PIN, so that the page knows what it can offer. */
  async pin(): Promise<Pin> {
    return (await this.call<Pin>('GET', '/pin')).body
  }

  /**
   * Lets the user change the PIN, or restore a forgotten one.
   *
   * A request whose response was lost is retried with the same `Idempotency-Key`, also after a reload of the page.
   *
   * @param signal Abort it when the user leaves the screen. The promise then rejects with the signal's reason.
   * @throws {ApiError} Show its `message`.
   */
  start(type: ChallengeType, signal?: AbortSignal): Promise<Outcome> {
    return this.alone(signal, async () => {
      const last = this.stored
      const isRepeat = last?.type === type && !last.challengeId && !isOld(last)
      const { key, at } = isRepeat ? last : { key: uuid(), at: Date.now() }
      this.stored = { type, key, at }
      const { body, retryAfter } = await this.call<Challenge & { session?: Session }>('POST', '/challenges', {
        body: { type },
        headers: { 'idempotency-key': key },
        signal,
      }).catch((error) => {
        // The next attempt is a new one, unless the challenge may exist.
        if (error instanceof ApiError && !error.isTemporary) this.stored = undefined
        throw error
      })
      const { session, ...challenge } = body
      this.stored = { type, key, at, challengeId: challenge.challengeId }
      this.options.onUpdate?.(challenge)
      if (isFinal(challenge)) return this.end(challenge)
      return this.run(challenge, session ?? (await this.newSession(signal)), retryAfter, signal)
    })
  }

  /**
   * Goes on with the challenge that this browser has started last, for example after a reload. Returns `undefined` if
   * there is none, or if it is too old: then offer `start`.
   *
   * @param signal As for `start`.
   * @throws {ApiError} Show its `message`.
   */
  async resume(signal?: AbortSignal): Promise<Outcome | undefined> {
    const stored = this.stored
    const challengeId = stored?.challengeId
    if (!challengeId) return undefined
    return this.alone(signal, async () => {
      const session = await this.newSession(signal)
      const found = await this.poll(challengeId, session, signal).catch((error) => {
        if (error instanceof ApiError && error.problem.code === 'challenge_not_found') return undefined
        throw error
      })
      if (found && isFinal(found.body)) return this.end(found.body)
      if (found && !isOld(stored)) return this.run(found.body, session, found.retryAfter, signal)
      this.stored = undefined
      return undefined
    })
  }

  /** Runs the challenge in Circle's frame, and asks for its status until it has ended or the user has left. */
  private async run(
    challenge: Challenge,
    session: Session,
    retryAfter: number,
    signal?: AbortSignal,
  ): Promise<Outcome> {
    const { challengeId } = challenge
    let frame = new Frame(this.options.sdk, challengeId, session)
    let newSessions = 0
    // The service asks Circle at most once in three seconds. So the first poll after the end can be too early.
    let pollsAfterClosing = 2
    try {
      for (;;) {
        await frame.change(retryAfter, signal)
        const wasOpen = frame.isOpen
        try {
          ;({ body: challenge, retryAfter } = await this.poll(challengeId, session, signal))
        } catch (error) {
          // The user may be entering the PIN. So only an error that lasts closes the frame.
          const isTemporary = error instanceof ApiError && (error.isTemporary || error.status === 429)
          if (!isTemporary || !wasOpen) throw error
          retryAfter = error.retryAfter ?? 10
        }
        if (isFinal(challenge)) return this.end(challenge)
        if (frame.saidForgotPin) return { kind: 'forgotPin', challenge }
        // `resume` would fail in the same way.
        if (frame.needsFirstSession) this.stored = undefined

        if (frame.sessionEnded || challenge.checkError?.code === 'invalid_user_token') {
          newSessions += 1
          if (newSessions > MAX_NEW_SESSIONS) throw new ApiError(400, challenge.checkError)
          session = await this.newSession(signal)
          frame.sessionEnded = false
          // In a frame with the old session, the user would enter the PIN for nothing.
          if (frame.isOpen) {
            frame.close()
            frame = new Frame(this.options.sdk, challengeId, session)
          }
          retryAfter = 0
        } else if (frame.isUnreachable) {
          return { kind: 'unreachable', challenge }
        } else if (!wasOpen && !frame.isComplete) {
          pollsAfterClosing -= 1
          if (pollsAfterClosing === 0) return { kind: 'closed', challenge }
        }
      }
    } finally {
      frame.close()
    }
  }

  private end(challenge: Challenge): Outcome {
    this.stored = undefined
    return { kind: 'ended', challenge }
  }

  private async newSession(signal?: AbortSignal): Promise<Session> {
    return (await this.call<Session>('POST', '/session-tokens', { signal })).body
  }

  private async poll(challengeId: string, session: Session, signal?: AbortSignal) {
    const headers = { 'x-user-token': session.userToken }
    const response = await this.call<Challenge>('GET', `/challenges/${challengeId}`, { headers, signal })
    this.options.onUpdate?.(response.body)
    return response
  }

  /**
   * Runs one attempt at a time in this page, because there is one `W3SSdk` object, and in one tab at a time, because a
   * new session may end those of other tabs.
   */
  private async alone<T>(
    signal: AbortSignal | undefined,
    attempt: () => Promise<T>,
  ): Promise<T | { kind: 'otherTab' }> {
    const { sdk } = this.options
    while (running.get(sdk)?.signal?.aborted) await running.get(sdk)?.ended
    signal?.throwIfAborted()
    const otherTab = { kind: 'otherTab' } as const
    if (running.has(sdk)) return otherTab
    // Browsers have no locks on pages without https, other than those of localhost.
    const result = navigator.locks
      ? navigator.locks.request(this.storageKey, { ifAvailable: true }, async (lock) => (lock ? attempt() : otherTab))
      : attempt()
    const end = () => running.delete(sdk)
    running.set(sdk, { signal, ended: result.then(end, end) })
    return result
  }

  /** Calls the API, and retries the call while it fails for the moment. */
  private async call<T>(method: string, path: string, request: Request = {}): Promise<{ body: T; retryAfter: number }> {
    const { signal } = request
    for (let retries = 0; ; retries += 1) {
      try {
        return await this.callOnce<T>(method, path, request)
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof ApiError && error.isTemporary) || retries === RETRIES) throw error
        await pause(error.retryAfter ?? 2, signal)
      }
    }
  }

  private async callOnce<T>(method: string, path: string, { body, headers, signal }: Request) {
    const noResponse = (cause: unknown) => {
      throw cause instanceof ApiError ? cause : new ApiError(0, {}, undefined, { cause })
    }
    const token = await this.options.bearerToken().catch(noResponse)
    const content = body && { 'content-type': 'application/json' }
    const response = await fetch(this.options.apiUrl + path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...content, ...headers },
      body: body && JSON.stringify(body),
      signal,
    }).catch(noResponse)
    const seconds = Number(response.headers.get('retry-after') ?? NaN)
    const retryAfter = Number.isFinite(seconds) ? seconds : undefined
    const json = await response.json().catch(() => undefined)
    if (!response.ok) throw new ApiError(response.status, json ?? {}, retryAfter)
    // The connection broke before the end of the response.
    if (!json) throw new ApiError(0)
    return { body: json as T, retryAfter: retryAfter ?? 3 }
  }

  private get storageKey() {
    return `pin-change:${this.options.userId}`
  }

  private get stored(): Stored | undefined {
    try {
      const text = localStorage.getItem(this.storageKey)
      return text ? JSON.parse(text) : undefined
    } catch {
      return memory.get(this.storageKey)
    }
  }

  private set stored(value) {
    if (value) memory.set(this.storageKey, value)
    else memory.delete(this.storageKey)
    try {
      if (value) localStorage.setItem(this.storageKey, JSON.stringify(value))
      else localStorage.removeItem(this.storageKey)
    } catch {
      // The browser blocks it.
    }
  }
}

interface Request {
  body?: object
  headers?: Record<string, string>
  signal?: AbortSignal
}

/** One run of the SDK. Its callback is only a hint: it can come more than once, or never. */
class Frame {
  isComplete = false
  isUnreachable = false
  saidForgotPin = false
  sessionEnded = false
  needsFirstSession = false
  private readonly observer: MutationObserver
  private readonly openedAt = performance.now()
  private changed = false
  private wake = () => {}

  constructor(sdk: W3SSdk, challengeId: string, { userToken, encryptionKey }: Session) {
    document.addEventListener('visibilitychange', this.onChange)
    window.addEventListener('online', this.onChange)
    this.observer = new MutationObserver(() => this.isOpen || this.onChange())
    this.observer.observe(document.body, { childList: true })

    sdk.setAuthentication({ userToken, encryptionKey })
    sdk.setOnForgotPin(() => {
      this.saidForgotPin = true
      this.onChange()
    })
    sdk.execute(challengeId, (error) => {
      const { code = 0 } = error ?? {}
      this.isComplete ||= !error
      this.isUnreachable ||= code === NETWORK_ERROR && !(this.isHidden && this.age < SDK_TIMER_SECONDS)
      this.sessionEnded ||= SESSION_ENDED.includes(code)
      this.needsFirstSession ||= code === SESSION_MISMATCH
      this.onChange()
    })
  }

  get isOpen() {
    return this.element !== null
  }

  /** Waits until something has happened, or for `seconds`. */
  async change(seconds: number, signal?: AbortSignal) {
    const limit = this.isHidden ? Math.min(seconds, OPENING_LIMIT_SECONDS - this.age) : seconds
    if (!this.changed) await pause(limit, signal, (wake) => (this.wake = wake))
    signal?.throwIfAborted()
    this.changed = false
    this.isUnreachable ||= this.isHidden && this.age >= OPENING_LIMIT_SECONDS
  }

  /** Removes the frame, which the SDK leaves in the page after an error. */
  close() {
    this.observer.disconnect()
    document.removeEventListener('visibilitychange', this.onChange)
    window.removeEventListener('online', this.onChange)
    this.element?.remove()
  }

  private get element() {
    return document.getElementById('sdkIframe')
  }

  /** The SDK shows the frame when Circle's page asks for that. */
  private get isHidden() {
    return this.element?.style.display === 'none'
  }

  private get age() {
    return (performance.now() - this.openedAt) / 1000
  }

  private readonly onChange = () => {
    this.changed = true
    this.wake()
  }
}

const isOld = ({ at }: Stored) => Date.now() - at > MAX_AGE_SECONDS * 1000

/** A random UUID. `crypto.randomUUID` is missing on pages without https, other than those of localhost. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
  return digits.replace(/(.{8})(.{4}).(.{3}).(.{3})(.{12})/, '$1-$2-4$3-a$4-$5')
}

/** Waits for `seconds`, or until `wake` is called. Rejects with the signal's reason if the signal aborts. */
function pause(seconds: number, signal?: AbortSignal, onStart?: (wake: () => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
      settle()
    }
    const abort = () => end(() => reject(signal?.reason))
    const wake = () => end(resolve)
    const timer = setTimeout(wake, Math.max(0, seconds) * 1000)
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort)
    onStart?.(wake)
  })
}

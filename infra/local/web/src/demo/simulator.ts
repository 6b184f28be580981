/** The simulator's control API, as far as the demo uses it. The server of this page passes it on. */

const CONTROL = '/control'

export async function control<T = unknown>(method: string, path: string, body?: object): Promise<T> {
  const response = await fetch(CONTROL + path, { method, body: body && JSON.stringify(body) })
  const json = await response.json()
  if (!response.ok) throw new Error(json.error)
  return json
}

/** The stack's time, in milliseconds. It runs ahead of the browser's after "Let an hour pass". */
export async function now(): Promise<number> {
  const { now } = await control<{ now: string }>('GET', '/clock')
  return Date.parse(now)
}

/** The users of the demo. Choosing one creates it at the simulated Circle. */
export const USERS = [
  {
    id: 'demo-user',
    label: 'has a PIN and security questions',
    hint: 'The PIN is 112233. The answers are Rex and Oslo.',
    state: { pin: '112233', pinStatus: 'ENABLED', securityQuestionStatus: 'ENABLED' },
  },
  {
    id: 'demo-locked',
    label: 'has entered three wrong PINs',
    hint: 'PIN entry is locked for 30 minutes. The answers are Rex and Oslo.',
    state: { pin: '112233', pinStatus: 'LOCKED', securityQuestionStatus: 'ENABLED' },
  },
  {
    id: 'demo-no-pin',
    label: 'has no PIN yet',
    hint: 'There is nothing to change.',
    state: { pinStatus: 'UNSET', securityQuestionStatus: 'UNSET' },
  },
  {
    id: 'demo-no-questions',
    label: 'has no security questions',
    hint: 'The PIN is 112233. It cannot be restored if it is forgotten.',
    state: { pin: '112233', pinStatus: 'ENABLED', securityQuestionStatus: 'UNSET' },
  },
  {
    id: 'demo-email',
    label: 'signs in to Circle by e-mail',
    hint: 'Such users have no PIN.',
    state: { authMode: 'EMAIL' },
  },
] as const

export type User = (typeof USERS)[number]

/** Creates the user, or resets it to how the demo begins. */
export const resetUser = ({ id, state }: User) => control('PUT', `/users/${id}`, state)

/** What anybody can let go wrong. `isOn` tells whether it lasts, if it is a state. */
export const TROUBLES = [
  {
    id: 'lose-webhooks',
    label: 'Lose Circle’s webhooks',
    hint: 'The app’s polls bring the result instead.',
    turnOn: () => control('PATCH', '/knobs', { loseWebhooks: 1_000_000 }),
    turnOff: () => control('PATCH', '/knobs', { loseWebhooks: 0 }),
  },
  {
    id: 'circle-down',
    label: 'Take Circle down',
    hint: 'Every call to Circle gets 503.',
    turnOn: () => control('POST', '/faults', { status: 503, times: 1_000_000 }),
    turnOff: () => control('DELETE', '/faults'),
  },
] as const

export const endSession = (userId: string) => control('POST', `/users/${userId}/forget-tokens`)

export const letAnHourPass = () => control('POST', '/clock/advance', { seconds: 3600 })

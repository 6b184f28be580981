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
    label: 'ready',
    hint: 'The PIN is 112233 until you change it. The answers are Rex and Oslo.',
    state: { pin: '112233', pinStatus: 'ENABLED', securityQuestionStatus: 'ENABLED' },
  },
  {
    id: 'demo-locked',
    label: 'locked out',
    hint: 'PIN entry is locked for 30 minutes. The answers are Rex and Oslo.',
    state: { pin: '112233', pinStatus: 'LOCKED', securityQuestionStatus: 'ENABLED' },
  },
  {
    id: 'demo-no-pin',
    label: 'no PIN yet',
    hint: 'There is nothing to change.',
    state: { pinStatus: 'UNSET', securityQuestionStatus: 'UNSET' },
  },
  {
    id: 'demo-no-questions',
    label: 'PIN only',
    hint: 'The PIN is 112233 until you change it. Without security questions, it cannot be restored.',
    state: { pin: '112233', pinStatus: 'ENABLED', securityQuestionStatus: 'UNSET' },
  },
  {
    id: 'demo-email',
    label: 'by e-mail',
    hint: 'Users who sign in to Circle by e-mail have no PIN.',
    state: { authMode: 'EMAIL' },
  },
] as const

export type User = (typeof USERS)[number]

/** Creates the user, or resets it to how the demo begins. */
export const resetUser = ({ id, state }: User) => control('PUT', `/users/${id}`, state)

/** What goes wrong for as long as its box is checked. The control page may have turned it on. */
export const TROUBLES = [
  {
    id: 'lose-webhooks',
    isOn: async () => (await control<{ loseWebhooks: number }>('GET', '/knobs')).loseWebhooks > 0,
    turnOn: () => control('PATCH', '/knobs', { loseWebhooks: 1_000_000 }),
    turnOff: () => control('PATCH', '/knobs', { loseWebhooks: 0 }),
  },
  {
    id: 'circle-down',
    isOn: async () => (await control<{ status?: number }[]>('GET', '/faults')).some(({ status }) => status === 503),
    turnOn: () => control('POST', '/faults', { status: 503, times: 1_000_000 }),
    turnOff: () => control('DELETE', '/faults'),
  },
] as const

export const endSession = (userId: string) => control('POST', `/users/${userId}/forget-tokens`)

export const letAnHourPass = () => control('POST', '/clock/advance', { seconds: 3600 })

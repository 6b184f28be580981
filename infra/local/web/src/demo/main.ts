/** The demo app: it changes the PIN of a demo user with Circle's own SDK, and shows everything that happens. */

import { ApiError, type Challenge, type ChallengeType, isFinal, type Outcome, PinChange } from '../pin-change.ts'
import { endSession, letAnHourPass, now, resetUser, TROUBLES, type User, USERS } from './simulator.ts'
import * as timeline from './timeline.ts'

interface Config {
  apiUrl: string
  issuerUrl: string
  /** The origin of the simulator's page for the PIN, instead of Circle's. */
  pinPageUrl?: string
}

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T
const config: Config = await (await fetch('/config.json')).json()
const { W3SSdk } = await import('./sdk.ts')

const sdk = new W3SSdk({ appSettings: { appId: '00000000-0000-4000-8000-000000000000' } })
// With Circle itself, an app leaves this line out.
if (config.pinPageUrl) Object.assign(sdk, { serviceUrl: config.pinPageUrl })

let user: User = USERS[0]
let attempt: AbortController | undefined
/** The button that began the attempt. It gets the focus back. */
let pressed: HTMLButtonElement | undefined
let countdown: ReturnType<typeof setInterval> | undefined

const pinChange = () =>
  new PinChange({
    apiUrl: config.apiUrl,
    userId: user.id,
    bearerToken,
    sdk,
    onUpdate: (challenge) => isFinal(challenge) || show('Continue on Circle’s page …'),
  })

/** The demo's issuer signs in anybody. Yours asks for a password or a passkey. */
async function bearerToken() {
  const response = await fetch(`${config.issuerUrl}/token?sub=${encodeURIComponent(user.id)}`)
  return response.text()
}

async function run(start: (signal: AbortSignal) => Promise<Outcome | undefined>) {
  attempt?.abort()
  attempt = new AbortController()
  const { signal } = attempt
  // "Forgot PIN?" on Circle's page begins another attempt without a button of this page.
  if (document.activeElement instanceof HTMLButtonElement) pressed = document.activeElement
  setBusy(true)
  show('One moment …')
  try {
    const outcome = await start(signal)
    if (outcome) await showOutcome(outcome)
    else show('')
  } catch (error) {
    if (!signal.aborted) await showError(error)
  } finally {
    if (!signal.aborted) {
      setBusy(false)
      pressed?.focus({ preventScroll: true })
    }
  }
}

const start = (type: ChallengeType) => run((signal) => pinChange().start(type, signal))
const resume = () => run((signal) => pinChange().resume(signal))

async function showOutcome(outcome: Outcome) {
  switch (outcome.kind) {
    case 'ended':
      return showEnd(outcome.challenge)
    case 'forgotPin':
      return start('RESTORE_PIN')
    case 'closed':
      return show('You closed the page. You can go on where you left off.', { offersResume: true })
    case 'unreachable':
      return show('Circle’s page does not open. Check your connection.', { offersResume: true, isProblem: true })
    case 'otherTab':
      return show('You are changing your PIN in another tab.', { isProblem: true })
  }
}

async function showEnd({ status, failure }: Challenge) {
  if (status === 'COMPLETE') return show('Your new PIN is valid.', { isSuccess: true })
  const areAnswersLocked = failure?.reason === 'security_answers_locked'
  const lockedUntil = areAnswersLocked ? (await pinChange().pin()).securityQuestionsLockedUntil : failure?.lockedUntil
  await showLock(failure?.message ?? 'This did not work.', lockedUntil)
}

async function showError(error: unknown) {
  if (!(error instanceof ApiError)) throw error
  await showLock(error.message, error.problem.lockedUntil)
}

/** Shows a text, and how long a lock still lasts. */
async function showLock(text: string, lockedUntil?: string) {
  show(text, { isProblem: true })
  if (!lockedUntil) return
  // The page's timer keeps pace with the stack's clock, except for "Let an hour pass", which ends the countdown.
  const end = performance.now() + Date.parse(lockedUntil) - (await now())
  const tick = () => {
    const seconds = Math.max(0, Math.round((end - performance.now()) / 1000))
    const left = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
    element('countdown').textContent = seconds > 0 ? `The lock ends in ${left}.` : 'The lock has ended.'
    if (seconds === 0) clearInterval(countdown)
  }
  countdown = setInterval(tick, 1000)
  tick()
}

function show(text: string, { isProblem = false, isSuccess = false, offersResume = false } = {}) {
  clearInterval(countdown)
  element('countdown').textContent = ''
  const message = element('message')
  message.textContent = text
  message.className = isProblem ? 'problem' : isSuccess ? 'success' : ''
  element('resume').hidden = !offersResume
}

function setBusy(isBusy: boolean) {
  for (const id of ['change', 'restore', 'resume']) element<HTMLButtonElement>(id).disabled = isBusy
}

async function choose(chosen: User) {
  attempt?.abort()
  setBusy(false)
  user = chosen
  timeline.clear()
  element('hint').textContent = user.hint
  await resetUser(user)
  show('')
}

const select = element<HTMLSelectElement>('user')
for (const { id, label } of USERS) select.add(new Option(`${id} – ${label}`, id))
select.onchange = () => choose(USERS.find(({ id }) => id === select.value) ?? USERS[0])
element('reset').onclick = () => choose(user)
element('change').onclick = () => start('CHANGE_PIN')
element('restore').onclick = () => start('RESTORE_PIN')
element('resume').onclick = resume

for (const { id, isOn, turnOn, turnOff } of TROUBLES) {
  const box = element<HTMLInputElement>(id)
  box.onchange = () => (box.checked ? turnOn() : turnOff())
  box.checked = await isOn()
}
element('end-session').onclick = () => endSession(user.id)
element('hour').onclick = async () => {
  await letAnHourPass()
  show('')
}

timeline.watchRequests(config.apiUrl)
timeline.watchStack(() => user.id)
element('hint').textContent = user.hint
document.body.dataset.ready = 'true'
// A page that was closed or loaded again goes on with its challenge.
await resume()

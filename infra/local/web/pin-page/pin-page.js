// The page in the frame of Circle's Web SDK, in which the user enters the PIN. It speaks the protocol of the SDK 1.1.11.
//
// The simulator decides about every PIN and every answer. This page only shows the results, and tells the SDK.

const app = new URLSearchParams(location.search).get('origin')
const element = (id) => document.getElementById(id)
/** Without an app, there is nobody to tell. */
const tell = (message) => app && window.parent.postMessage(message, app)
/** Nothing in a hidden frame can have the focus, and a hidden frame draws nothing. */
const focus = (target) => requestAnimationFrame(() => target.focus())

const texts = {
  common: { continue: 'Continue', showPin: 'Show PIN', hidePin: 'Hide PIN' },
  enterPincode: { headline: 'Enter your PIN', subhead: 'Your current PIN has six digits.', forgotPin: 'Forgot PIN?' },
  newPincode: { headline: 'Choose a new PIN', subhead: 'Avoid repeated or consecutive digits.' },
  confirmNewPincode: { headline: 'Confirm your new PIN', subhead: 'Enter the same six digits again.' },
  recoverPincode: {
    headline: 'Answer your security questions',
    subhead: 'Then you can choose a new PIN.',
    answerInputPlaceholder: 'Your answer',
  },
}

// The SDK's codes for what this page finds out by itself.
const CANCELLED = { code: 155701, message: 'User canceled' }
const NOT_MATCHED = { code: 155703, message: 'The PINs do not match.' }
const NETWORK_ERROR = { code: 155706, message: 'Network error' }
// After these errors the user can try again: a wrong PIN, wrong answers, a new PIN that is too simple.
const CORRECTABLE = [155112, 155115, 155704]

let task
let challengeType

window.addEventListener('message', ({ origin, source, data }) => {
  if (origin !== app || source !== window.parent || !data?.w3s || task) return
  task = data.w3s
  customize(task.customizations ?? {})
  run().catch(() => fail(NETWORK_ERROR))
})
tell({ onFrameReady: true })
if (window.parent === window) {
  element('close').hidden = true
  element('headline').textContent = 'Circle’s Web SDK shows this page in an app.'
}

/** The whole dialogue with the user. It ends with the challenge, or with an error that the user cannot correct. */
async function run() {
  const challenge = await ask('open')
  tell({ showUi: true })
  if (challenge.error) return fail(challenge.error)
  challengeType = challenge.type
  const entry = challengeType === 'RESTORE_PIN' ? await enterAnswers(challenge.questions) : await enterCurrentPin()
  if (!entry) return
  const newPin = await enterNewPin()
  if (!newPin) return
  const { error } = await ask('finish', { ...entry, newPin })
  if (error) return fail(error)
  tell({ onComplete: true, result: { type: challengeType, status: 'COMPLETE' } })
}

async function enterCurrentPin() {
  element('forgot').hidden = false
  for (;;) {
    const pin = await enterPin('enterPincode')
    const { error } = await ask('check', { pin })
    if (!error) {
      element('forgot').hidden = true
      return { pin }
    }
    if (!CORRECTABLE.includes(error.code)) return fail(error)
    report(error)
  }
}

async function enterNewPin() {
  for (;;) {
    const newPin = await enterPin('newPincode')
    let { error } = await ask('check-new', { newPin })
    if (error && !CORRECTABLE.includes(error.code)) return fail(error)
    if (!error) {
      if ((await enterPin('confirmNewPincode')) === newPin) return newPin
      error = NOT_MATCHED
    }
    report(error)
  }
}

async function enterAnswers(questions) {
  const { answerInputPlaceholder } = texts.recoverPincode
  const fields = questions.map((question, index) => {
    const label = document.createElement('label')
    const input = document.createElement('input')
    label.textContent = question
    label.htmlFor = input.id = `answer-${index}`
    Object.assign(input, { required: true, autocomplete: 'off', placeholder: answerInputPlaceholder })
    element('questions').append(label, input)
    return input
  })
  element('submit-answers').textContent = texts.common.continue
  show('recoverPincode', 'answers-form')
  for (;;) {
    focus(fields[0])
    await new Promise((resolve) => (element('answers-form').onsubmit = (event) => resolve(event.preventDefault())))
    const answers = fields.map(({ value }) => value)
    const { error } = await ask('check', { answers })
    if (!error) return { answers }
    if (!CORRECTABLE.includes(error.code)) return fail(error)
    report(error)
  }
}

/** Shows six boxes, and returns the digits as soon as there are six. */
function enterPin(step) {
  show(step, 'pin-form')
  const input = element('pin')
  const boxes = document.querySelectorAll('.boxes span')
  let isShown = false
  const draw = () => {
    boxes.forEach((box, index) => {
      box.textContent = index >= input.value.length ? '' : isShown ? input.value[index] : '•'
      box.classList.toggle('next', index === Math.min(input.value.length, 5))
      box.classList.toggle('masked', !isShown)
    })
    // A screen reader does not read out a password.
    input.type = isShown ? 'text' : 'password'
    element('show').textContent = isShown ? texts.common.hidePin : texts.common.showPin
  }
  input.value = ''
  draw()
  focus(input)
  element('pin-form').onsubmit = (event) => event.preventDefault()
  element('show').onclick = () => {
    isShown = !isShown
    draw()
    input.focus()
  }
  return new Promise((resolve) => {
    input.oninput = () => {
      input.value = input.value.replace(/\D/g, '').slice(0, 6)
      element('error').textContent = ''
      draw()
      if (input.value.length === 6) resolve(input.value)
    }
    // Pasted digits may have spaces between them, for which `maxlength` has no room.
    input.onpaste = (event) => {
      event.preventDefault()
      input.value = event.clipboardData.getData('text').replace(/\D/g, '').slice(0, 6)
      input.oninput()
    }
  })
}

/** Asks the simulator. Returns its response, which has an `error` if it rejects. */
async function ask(action, entry = {}) {
  const controls = document.querySelectorAll('input, button')
  controls.forEach((control) => (control.disabled = true))
  try {
    const response = await fetch(`challenges/${task.challenge.challengeId}/${action}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ userToken: task.auth?.userToken ?? '', ...entry }),
    })
    return await response.json()
  } catch {
    return { error: NETWORK_ERROR }
  } finally {
    controls.forEach((control) => (control.disabled = false))
  }
}

/** Reports an error that the user cannot correct. Only the close button is left. */
function fail(error) {
  tell({ showUi: true })
  for (const id of ['pin-form', 'answers-form', 'forgot', 'subhead']) element(id).hidden = true
  element('headline').textContent = 'This did not work'
  report(error)
  element('close').onclick = () => tell({ onClose: true })
  focus(element('close'))
}

/** Shows an error, and tells the SDK. */
function report(error) {
  tell({ onError: true, error })
  const { message, attemptsLeft, lockedUntil } = error
  const attempts = attemptsLeft === 1 ? '1 attempt is left.' : `${attemptsLeft} attempts are left.`
  const until = lockedUntil && new Date(lockedUntil).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
  const sentence = message.endsWith('.') ? message : `${message}.`
  element('error').textContent = [sentence, attemptsLeft && attempts, until && `Try again at ${until}.`]
    .filter(Boolean)
    .join(' ')
}

function show(step, form) {
  const { headline, headline2, subhead } = texts[step]
  element('headline').textContent = [headline, headline2].filter(Boolean).join(' ')
  element('subhead').textContent = subhead
  element('forgot').textContent = texts.enterPincode.forgotPin
  for (const id of ['pin-form', 'answers-form']) element(id).hidden = id !== form
}

/** The app's own colours and texts, as the SDK sends them. */
function customize({ themeColor, localizations }) {
  for (const [name, value] of Object.entries(themeColor ?? {})) {
    document.documentElement.style.setProperty(`--${name}`, String(value))
  }
  for (const [step, own] of Object.entries(localizations ?? {})) Object.assign((texts[step] ??= {}), own)
}

element('forgot').onclick = () => tell({ onForgotPin: true })

element('close').onclick = async () => {
  if (task) await ask('cancel')
  tell({ onError: true, error: CANCELLED })
  tell({ onClose: true })
}

// The demo app in Chromium: what a user does, what goes wrong, and what the user then sees.

import assert from 'node:assert/strict'
import { after, beforeEach, test } from 'node:test'
import { App, browser, control, latestChallenge, limits, NEW_PIN, PIN, reset, stack, until } from './browser.js'

beforeEach(reset)
after(() => browser.close())

test('a user changes the PIN in a few seconds', limits, async () => {
  const app = await App.open()
  const begin = Date.now()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.screenshot('enter-pin')
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  assert.ok(Date.now() - begin < 10_000)
  for (const entry of ['POST /challenges → 201: PENDING', 'PENDING → 200', 'COMPLETE → 200', 'PIN Challenge Settled']) {
    await app.hasHappened(entry)
  }
  await app.screenshot('changed')
  await app.close()
  assert.equal((await latestChallenge()).status, 'COMPLETE')
})

test('the time line shows each message without its secrets', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.hasHappened('PIN Challenge Settled')
  const entry = app.page.locator('#timeline details').first()
  await entry.locator('summary').click()
  const text = await entry.locator('pre').textContent()
  assert.match(text, /"challengeId"/)
  const all = await app.page.locator('#timeline').textContent()
  assert.ok(!all.includes(PIN) && !all.includes(NEW_PIN) && !/eyJ[\w-]{20}/.test(all))
  await app.close()
})

test('the PIN reaches neither the app nor the API', limits, async () => {
  const sent = []
  const before = (page) => page.on('request', (request) => sent.push(request))
  const app = await App.open({ before })
  await app.press('Change PIN')
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  const withPin = sent.filter((request) => request.postData()?.includes(NEW_PIN))
  assert.ok(withPin.length > 0)
  for (const request of withPin) assert.ok(request.url().startsWith(stack.pinPage), request.url())
  await app.close()
})

test('a wrong PIN can be corrected', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.enter('000000')
  await app.rejects('2 attempts are left.')
  await app.screenshot('wrong-pin')
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.close()
})

test('three wrong PINs lock PIN entry, and the page says until when', limits, async () => {
  const app = await App.open({ expectedErrors: /423/ })
  // The app closes the page as soon as a poll says that the challenge has failed.
  let letPollsPass
  const seen = new Promise((resolve) => (letPollsPass = resolve))
  await app.page.route(`${stack.api}/challenges/*`, (route) => seen.then(() => route.continue()))
  await app.press('Change PIN')
  for (const left of ['2 attempts are left.', '1 attempt is left.', 'Try again at']) {
    await app.enter('000000')
    await app.rejects(left)
  }
  await app.screenshot('locked')
  letPollsPass()
  await app.shows('Too many incorrect PINs')
  await app.page.locator('#countdown', { hasText: /The lock ends in (29|30):\d\d/ }).waitFor()
  await app.press('Change PIN')
  await app.shows('PIN entry is locked until')
  await app.close()
})

test('a forgotten PIN leads to recovery', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.frame.getByRole('button', { name: 'Forgot PIN?' }).click()
  await app.answer('Rex', 'Rome')
  await app.rejects('attempts are left.')
  await app.isAccessible(app.pinPage)
  await app.screenshot('questions')
  await app.answer('Rex', 'Oslo')
  await app.chooseNewPin()
  await app.shows('Your new PIN is valid.')
  await app.hasHappened('PIN Recovery Requested')
  await app.close()
})

test('wrong answers lock recovery, and the page says for how long', limits, async () => {
  const app = await App.open({ expectedErrors: /423/ })
  await app.press('Forgot PIN?')
  for (const left of ['2 attempts are left.', '1 attempt is left.']) {
    await app.answer('Rex', 'Rome')
    await app.rejects(left)
  }
  await app.answer('Rex', 'Rome')
  await app.shows('Too many incorrect answers')
  await app.page.locator('#countdown', { hasText: /The lock ends in (29|30):\d\d/ }).waitFor()
  await app.close()
})

test('a weak PIN and one that is not repeated are rejected', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.enter(PIN)
  await app.headline('Choose a new PIN')
  await app.enter('123456')
  await app.rejects('repeated or consecutive')
  await app.enter(NEW_PIN)
  await app.headline('Confirm your new PIN')
  await app.enter('445567')
  await app.rejects('do not match')
  await app.chooseNewPin()
  await app.shows('Your new PIN is valid.')
  await app.close()
})

test('digits can be pasted, shown and deleted', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.enter('12')
  assert.deepEqual(await app.frame.locator('.boxes span').allTextContents(), ['•', '•', '', '', '', ''])
  await app.frame.getByRole('button', { name: 'Show PIN' }).click()
  assert.deepEqual(await app.frame.locator('.boxes span').allTextContents(), ['1', '2', '', '', '', ''])
  await app.frame.locator('#pin').press('Backspace')
  assert.deepEqual(await app.frame.locator('.boxes span').allTextContents(), ['1', '', '', '', '', ''])
  await app.frame.locator('#pin').evaluate((input, text) => {
    const data = new DataTransfer()
    data.setData('text', text)
    input.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }))
  }, '112 233')
  await app.chooseNewPin()
  await app.shows('Your new PIN is valid.')
  await app.close()
})

test('a user who cancels is told so', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.frame.getByRole('button', { name: 'Close' }).click()
  await app.shows(/cancel/i)
  assert.equal(await app.page.locator('#sdkIframe').count(), 0)
  await app.close()
})

test('a challenge that is left open goes on after a reload', limits, async () => {
  await control('PATCH', '/knobs', { cancelFailsChallenge: false })
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.frame.getByRole('button', { name: 'Close' }).click()
  await app.shows('You closed the page.')
  await app.page.reload()
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.close()
})

test('a page that does not respond is abandoned', limits, async () => {
  const before = async (page) => {
    await page.clock.install()
    await page.route(`${stack.pinPage}/**`, () => {})
  }
  const app = await App.open({ before })
  await app.press('Change PIN')
  await app.page.locator('#sdkIframe').waitFor({ state: 'attached' })
  await app.page.clock.fastForward(13_000)
  await app.shows('Circle’s page does not open.')
  await app.screenshot('silent')
  assert.equal(await app.page.locator('#sdkIframe').count(), 0)
  await app.close()
})

test('a session that ends while the page is open is replaced', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  // The panel of the demo is in reach beside the page.
  await app.press('End the session')
  await app.enter(PIN)
  await app.hasHappened('POST /session-tokens → 201')
  await app.headline('Enter your PIN')
  await app.enter(PIN)
  await app.headline('Choose a new PIN')
  await app.press('End the session')
  await app.enter(NEW_PIN)
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.close()
})

test('a second tab does not disturb the first', limits, async () => {
  const first = await App.open()
  await first.press('Change PIN')
  await first.headline('Enter your PIN')
  const second = await App.open({ context: first.page.context() })
  await second.shows('You are changing your PIN in another tab.')
  await first.changePin()
  await first.shows('Your new PIN is valid.')
  await second.close()
  await first.close()
})

test('polls bring the result if the webhooks are lost', limits, async () => {
  const app = await App.open()
  await app.page.getByLabel('Lose Circle’s webhooks').check()
  await app.press('Change PIN')
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.hasHappened('COMPLETE by poll')
  await app.close()
})

test('reconciliation brings the result if webhooks and polls are lost', limits, async () => {
  const app = await App.open({ expectedErrors: /503|Failed to load resource/ })
  await app.page.getByLabel('Lose Circle’s webhooks').check()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  // The page of the app is gone before the user has finished.
  const { id } = await latestChallenge()
  await app.page.goto('about:blank')
  await control('POST', `/challenges/${id}/pin`, { correct: true })
  await control('POST', '/clock/advance', { seconds: 2 * 3600 })
  const authorization = `Bearer ${stack.bearerToken}`
  await until(async () => {
    const response = await fetch(`${stack.api}/challenges/${id}`, { headers: { authorization } })
    return (await response.json()).status === 'COMPLETE'
  })
  await app.page.goto(stack.app)
  await app.shows('Your new PIN is valid.')
  await app.close()
})

test('while Circle is down, the user is told to try later', limits, async () => {
  const app = await App.open({ expectedErrors: /503|Failed to load resource/, before: (page) => page.clock.install() })
  await app.page.getByLabel('Take Circle down').check()
  await app.press('Change PIN')
  for (let retry = 0; retry < 6; retry += 1) {
    await app.hasHappened('POST /challenges → 503')
    await app.page.clock.runFor(60_000)
  }
  await app.shows(/try again/i)
  await app.close()
})

for (const [user, button, status] of [
  ['demo-locked', 'Change PIN', 423],
  ['demo-no-pin', 'Change PIN', 409],
  ['demo-no-questions', 'Forgot PIN?', 409],
  ['demo-email', 'Change PIN', 409],
]) {
  test(`${user} is told what to do`, limits, async () => {
    const app = await App.open({ user, expectedErrors: /Failed to load resource/ })
    await app.press(button)
    await app.hasHappened(`POST /challenges → ${status}`)
    await app.page.locator('#message.problem', { hasText: /\w/ }).waitFor()
    await app.close()
  })
}

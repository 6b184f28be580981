// The demo app in Chromium: what a user does, what goes wrong, and what the user then sees.

import assert from 'node:assert/strict'
import { after, beforeEach, test } from 'node:test'
import { App, browser, control as callControl, NEW_PIN, PIN, screenshots, stack, until } from './browser.js'

const limits = { timeout: 60_000 }

// Each test has an hour of its own, because a user may ask for ten challenges in an hour.
beforeEach(async () => {
  await callControl('POST', '/clock/advance', { seconds: 3600 })
  await callControl('DELETE', '/faults')
  await callControl('PATCH', '/knobs', { loseWebhooks: 0, cancelFailsChallenge: true })
  await callControl('PUT', '/users/demo-user', { pin: PIN, pinStatus: 'ENABLED', securityQuestionStatus: 'ENABLED' })
})

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
  const [challenge] = (await callControl('GET', '/challenges')).slice(-1)
  assert.equal(challenge.status, 'COMPLETE')
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
  await app.frame.getByRole('alert').filter({ hasText: '2 attempts are left.' }).waitFor()
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
    await app.frame.getByRole('alert').filter({ hasText: left }).waitFor()
  }
  await app.screenshot('locked')
  letPollsPass()
  await app.shows('Too many incorrect PINs')
  await app.page.locator('#countdown', { hasText: /PIN entry opens again in (29|30):\d\d/ }).waitFor()
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
  await app.frame.getByRole('alert').filter({ hasText: 'attempts are left.' }).waitFor()
  await app.screenshot('questions')
  await app.answer('Rex', 'Oslo')
  await app.chooseNewPin()
  await app.shows('Your new PIN is valid.')
  await app.hasHappened('PIN Recovery Requested')
  await app.close()
})

test('a weak PIN and one that is not repeated are rejected', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.enter(PIN)
  await app.headline('Choose a new PIN')
  await app.enter('123456')
  await app.frame.getByRole('alert').filter({ hasText: 'repeated or consecutive' }).waitFor()
  await app.enter(NEW_PIN)
  await app.headline('Confirm your new PIN')
  await app.enter('445567')
  await app.frame.getByRole('alert').filter({ hasText: 'do not match' }).waitFor()
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
  await callControl('PATCH', '/knobs', { cancelFailsChallenge: false })
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

test('a silent page is given up', limits, async () => {
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
  await callControl('POST', '/users/demo-user/forget-tokens')
  await app.enter(PIN)
  await app.hasHappened('POST /session-tokens → 201')
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.close()
})

test('a second tab does not disturb the first', limits, async () => {
  const first = await App.open()
  await first.press('Change PIN')
  await first.headline('Enter your PIN')
  const second = await App.open({ context: first.context })
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
  const [{ id }] = (await callControl('GET', '/challenges')).slice(-1)
  await app.page.goto('about:blank')
  await callControl('POST', `/challenges/${id}/pin`, { correct: true })
  await callControl('POST', '/clock/advance', { seconds: 2 * 3600 })
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

for (const [user, text] of [
  ['demo-locked', 'PIN entry is locked until'],
  ['demo-no-pin', 'PIN'],
  ['demo-email', 'PIN'],
]) {
  test(`${user} is told what to do`, limits, async () => {
    const app = await App.open({ user, expectedErrors: /Failed to load resource/ })
    await app.press('Change PIN')
    await app.shows(text)
    assert.equal(await app.page.locator('#message.problem').count(), 1)
    await app.close()
  })
}

test('Circle’s SDK works untouched, with the page at its own address', limits, async () => {
  const before = async (page) => {
    await page.route('**/config.json', async (route) => {
      const response = await route.fetch()
      const { pinPageUrl, ...config } = await response.json()
      assert.equal(pinPageUrl, stack.pinPage)
      await route.fulfill({ response, json: config })
    })
    await page.route('https://pw-auth.circle.com/**', async (route) => {
      const { pathname, search } = new URL(route.request().url())
      const response = await route.fetch({ url: stack.pinPage + pathname + search })
      await route.fulfill({ response })
    })
  }
  const app = await App.open({ before })
  await app.press('Change PIN')
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.close()
})

for (const colorScheme of ['light', 'dark']) {
  test(`nothing keeps users out, in ${colorScheme} colours`, limits, async () => {
    const app = await App.open({ colorScheme })
    await app.isAccessible()
    await app.press('Change PIN')
    await app.headline('Enter your PIN')
    await app.isAccessible(app.page.frames().find((frame) => frame.url().startsWith(stack.pinPage)))
    await app.screenshot(colorScheme)
    await app.changePin()
    await app.shows('Your new PIN is valid.')
    await app.hasHappened('PIN Challenge Settled')
    await app.isAccessible()
    await app.close()
  })
}

test('it fits a narrow screen', limits, async () => {
  const app = await App.open({ viewport: { width: 320, height: 640 } })
  const isWide = () => document.documentElement.scrollWidth > document.documentElement.clientWidth
  assert.equal(await app.page.evaluate(isWide), false)
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.screenshot('narrow')
  assert.equal(await app.frame.locator('html').evaluate(isWide), false)
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  assert.equal(await app.page.evaluate(isWide), false)
  await app.close()
})

test('the control page shows what happens, and its buttons act', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  const control = await app.context.newPage()
  const problems = []
  control.on('pageerror', (error) => problems.push(String(error)))
  control.on('console', (message) => message.type() === 'error' && problems.push(message.text()))
  await control.goto(stack.control)
  await control.waitForSelector('body[data-ready]')
  await app.isAccessible(control.mainFrame())
  await control.screenshot({ path: `${screenshots}control.png` })

  const [{ id }] = (await callControl('GET', '/challenges')).slice(-1)
  const row = control.locator('#challenges tr', { hasText: id })
  await row.getByRole('button', { name: 'Right PIN' }).click()
  await row.filter({ hasText: 'COMPLETE' }).waitFor()
  await app.shows('Your new PIN is valid.')

  await control.getByLabel('cancelFailsChallenge').uncheck()
  await until(async () => (await callControl('GET', '/knobs')).cancelFailsChallenge === false)
  await control.getByLabel('loseWebhooks').fill('3')
  await control.getByLabel('loseWebhooks').press('Enter')
  await until(async () => (await callControl('GET', '/knobs')).loseWebhooks === 3)
  await control.getByLabel('retryFactor').fill('much')
  await control.getByLabel('retryFactor').press('Enter')
  await control.locator('#error', { hasText: 'invalid type' }).waitFor()
  await control.getByRole('button', { name: 'Circle is down' }).click()
  await control.locator('#faults', { hasText: '503' }).waitFor()
  await control.getByRole('button', { name: 'Remove all' }).click()
  await control.locator('#faults', { hasText: 'none' }).waitFor()
  // Somebody else's changes show up by themselves.
  await callControl('PUT', '/users/somebody-new', { pin: PIN })
  await control.locator('#users tr', { hasText: 'somebody-new' }).waitFor()
  assert.deepEqual(problems.filter((text) => !text.includes('400')), [])
  await control.close()
  await app.close()
})

test('the keyboard is enough', limits, async () => {
  const app = await App.open()
  await app.page.locator('#change').focus()
  await app.page.keyboard.press('Enter')
  for (const [headline, digits] of [
    ['Enter your PIN', PIN],
    ['Choose a new PIN', NEW_PIN],
    ['Confirm your new PIN', NEW_PIN],
  ]) {
    await app.headline(headline)
    await app.frame.locator('#pin:focus').waitFor()
    await app.page.keyboard.type(digits)
  }
  await app.shows('Your new PIN is valid.')
  await app.close()
})

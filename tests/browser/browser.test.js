// The demo app in Chromium: what a user does, what goes wrong, and what the user then sees.

import assert from 'node:assert/strict'
import { after, beforeEach, test } from 'node:test'
import { App, browser, control, NEW_PIN, PIN, stack, until } from './browser.js'

const limits = { timeout: 60_000 }

// Each test has an hour of its own, because a user may ask for ten challenges in an hour.
beforeEach(async () => {
  await control('POST', '/clock/advance', { seconds: 3600 })
  await control('DELETE', '/faults')
  await control('PATCH', '/knobs', { loseWebhooks: 0, cancelFailsChallenge: true })
  await control('PUT', '/users/demo-user', { pin: PIN, pinStatus: 'ENABLED', securityQuestionStatus: 'ENABLED' })
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
  const [challenge] = (await control('GET', '/challenges')).slice(-1)
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
  await app.frame.getByRole('alert').filter({ hasText: 'attempts are left.' }).waitFor()
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
    await app.frame.getByRole('alert').filter({ hasText: left }).waitFor()
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
  const [{ id }] = (await control('GET', '/challenges')).slice(-1)
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

test('the page for the PIN has the colours and texts of the app', limits, async () => {
  const app = await App.open()
  await app.page.evaluate(async () => {
    const file = performance.getEntriesByType('resource').find(({ name }) => /sdk-\w+\.js$/.test(name))
    const { W3SSdk } = await import(file.name)
    // The constructor returns the one object of the page.
    const sdk = new W3SSdk()
    sdk.setThemeColor({ bg: '#fff8e1', textMain: 'rgb(74, 20, 140)', pinDotActivated: 'green', backdropOpacity: 0.9 })
    sdk.setLocalizations({
      common: { showPin: 'PIN anzeigen' },
      enterPincode: { headline: 'PIN', headline2: 'eingeben', subhead: 'Sechs Ziffern', forgotPin: 'PIN vergessen?' },
    })
  })
  await app.press('Change PIN')
  await app.headline('PIN eingeben')
  await app.enter('11')
  for (const text of ['Sechs Ziffern', 'PIN anzeigen', 'PIN vergessen?']) await app.frame.getByText(text).waitFor()
  const style = (selector, property) =>
    app.frame.locator(selector).evaluate((element, name) => getComputedStyle(element)[name], property)
  assert.equal(await style('main', 'backgroundColor'), 'rgb(255, 248, 225)')
  assert.equal(await style('h1', 'color'), 'rgb(74, 20, 140)')
  assert.equal(await style('.boxes span:first-child', 'color'), 'rgb(0, 128, 0)')
  assert.match(await style('html', 'backgroundColor'), /0\.9\)$/)
  await app.screenshot('themed')
  // Texts that the app has not given stay as they are.
  await app.enter('2233')
  await app.headline('Choose a new PIN')
  await app.close()
})

test('the page for the PIN explains itself to somebody who opens it', limits, async () => {
  const app = await App.open()
  await app.page.goto(stack.pinPage)
  await app.page.getByRole('heading', { name: 'Circle’s Web SDK shows this page in an app.' }).waitFor()
  await app.close()
})

test('the scripts of the app have less than 250 kB', limits, async () => {
  const sizes = []
  const before = (page) =>
    page.on('response', (response) => {
      if (response.request().resourceType() === 'script') sizes.push(response.body().then(({ length }) => length))
    })
  const app = await App.open({ before })
  const size = (await Promise.all(sizes)).reduce((sum, one) => sum + one, 0)
  assert.ok(size > 100_000 && size < 250_000, `${size} bytes`)
  await app.close()
})

test('a reload keeps what the panel and the control page have turned on', limits, async () => {
  const app = await App.open()
  const down = app.page.getByLabel('Take Circle down')
  assert.equal(await down.isChecked(), false)
  await control('POST', '/faults', { status: 503, times: 1000 })
  await app.page.getByLabel('Lose Circle’s webhooks').check()
  await until(async () => (await control('GET', '/knobs')).loseWebhooks > 0)
  await app.page.reload()
  await app.page.waitForSelector('body[data-ready]')
  assert.ok((await down.isChecked()) && (await app.page.getByLabel('Lose Circle’s webhooks').isChecked()))
  await down.uncheck()
  await until(async () => (await control('GET', '/faults')).length === 0)
  await app.close()
})

test('Circle’s SDK works unchanged, with the page at Circle’s address', limits, async () => {
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
  test(`the pages are accessible in ${colorScheme} colours`, limits, async () => {
    const app = await App.open({ colorScheme })
    await app.isAccessible()
    await app.press('Change PIN')
    await app.headline('Enter your PIN')
    await app.isAccessible(app.pinPage)
    await app.screenshot(colorScheme)
    // A frame with another colour scheme than the app would hide the app behind it.
    const root = app.frame.locator('html')
    assert.equal(await root.evaluate((html) => getComputedStyle(html).colorScheme), 'light dark')
    await app.changePin()
    await app.shows('Your new PIN is valid.')
    await app.hasHappened('PIN Challenge Settled')
    await app.isAccessible()
    await app.close()
  })
}

test('the pages fit a narrow screen', limits, async () => {
  const app = await App.open({ viewport: { width: 320, height: 640 } })
  const isWide = () => document.documentElement.scrollWidth > document.documentElement.clientWidth
  assert.equal(await app.page.evaluate(isWide), false)
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  await app.screenshot('narrow')
  assert.equal(await app.frame.locator('html').evaluate(isWide), false)
  await app.changePin()
  await app.shows('Your new PIN is valid.')
  await app.hasHappened('PIN Challenge Settled')
  assert.equal(await app.page.evaluate(isWide), false)
  // New entries of the time line do not move the page.
  assert.equal(await app.page.evaluate(() => scrollY), 0)
  await app.page.goto(stack.control)
  await app.page.waitForSelector('body[data-ready]')
  assert.equal(await app.page.evaluate(isWide), false)
  await app.isAccessible()
  await app.close()
})

test('the control page shows what happens, and its buttons act', limits, async () => {
  const app = await App.open()
  await app.press('Change PIN')
  await app.headline('Enter your PIN')
  const simulator = new App(await app.page.context().newPage(), /400/)
  const { page } = simulator
  await page.goto(stack.control)
  await page.waitForSelector('body[data-ready]')
  for (const colorScheme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme })
    await simulator.isAccessible()
  }
  await simulator.screenshot('control')

  const [{ id }] = (await control('GET', '/challenges')).slice(-1)
  const row = page.locator('#challenges tr', { hasText: id })
  await row.getByRole('button', { name: 'Right PIN' }).click()
  await row.filter({ hasText: 'COMPLETE' }).waitFor()
  await app.shows('Your new PIN is valid.')

  await page.getByLabel('cancelFailsChallenge').uncheck()
  await until(async () => (await control('GET', '/knobs')).cancelFailsChallenge === false)
  await page.getByLabel('loseWebhooks').fill('3')
  await page.getByLabel('loseWebhooks').press('Enter')
  await until(async () => (await control('GET', '/knobs')).loseWebhooks === 3)
  await page.getByLabel('retryFactor').fill('much')
  await page.getByLabel('retryFactor').press('Enter')
  await page.locator('#error', { hasText: 'invalid type' }).waitFor()
  await simulator.press('Circle is down')
  await page.locator('#faults', { hasText: '503' }).waitFor()
  await simulator.press('Remove all')
  await page.locator('#faults', { hasText: 'none' }).waitFor()
  // Somebody else's changes show up by themselves.
  await control('PUT', '/users/somebody-new', { pin: PIN })
  await page.locator('#users tr', { hasText: 'somebody-new' }).waitFor()
  await simulator.close()
  await app.close()
})

test('a user can change the PIN with the keyboard alone', limits, async () => {
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
  await app.page.locator('#change:focus').waitFor()
  await app.close()
})

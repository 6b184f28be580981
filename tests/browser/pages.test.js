// The pages themselves: their texts, colours and size, and whether everybody can use them.

import assert from 'node:assert/strict'
import { after, beforeEach, test } from 'node:test'
import { App, browser, control, latestChallenge, limits, NEW_PIN, PIN, reset, stack, until } from './browser.js'

beforeEach(reset)
after(() => browser.close())

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

  const { id } = await latestChallenge()
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

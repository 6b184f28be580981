// Chromium, the demo app in it, and what a user does there.

import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { chromium } from 'playwright-core'

if (!process.env.STACK) throw new Error('start the tests with ./run')
export const stack = JSON.parse(process.env.STACK)

export const PIN = '112233'
export const NEW_PIN = '445566'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core'), 'utf8')
const screenshots = new URL('../../target/browser/', import.meta.url).pathname
mkdirSync(screenshots, { recursive: true })

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
})

/** The simulator's control API. */
export async function control(method, path, body) {
  const response = await fetch(stack.control + path, { method, body: body && JSON.stringify(body) })
  const json = await response.json()
  assert.equal(response.status, 200, JSON.stringify(json))
  return json
}

/** The challenge that was created last. */
export async function latestChallenge() {
  return (await control('GET', '/challenges')).at(-1)
}

/** For each test. */
export const limits = { timeout: 60_000 }

/** Before each test. Each has an hour of its own, because a user may ask for ten challenges in an hour. */
export async function reset() {
  await control('POST', '/clock/advance', { seconds: 3600 })
  await control('DELETE', '/faults')
  await control('PATCH', '/knobs', { loseWebhooks: 0, cancelFailsChallenge: true })
  await control('PUT', '/users/demo-user', { pin: PIN, pinStatus: 'ENABLED', securityQuestionStatus: 'ENABLED' })
}

/** Waits until a condition is true. Fails after ten seconds. */
export async function until(condition) {
  for (const end = Date.now() + 10_000; !(await condition()); ) {
    assert.ok(Date.now() < end, `not true within 10 s: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** A page in a window of its own. `close` fails if the browser has reported an error that the test does not expect. */
export class App {
  constructor(page, expectedErrors = /$^/) {
    this.page = page
    this.problems = []
    const note = (text) => expectedErrors.test(text) || this.problems.push(text)
    page.on('pageerror', (error) => note(String(error)))
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && note(message.text()))
    page.on('request', (request) => {
      const { protocol, hostname } = new URL(request.url())
      if (!['data:', 'blob:'].includes(protocol) && !['127.0.0.1', 'pw-auth.circle.com'].includes(hostname)) {
        note(`a request to ${hostname}`)
      }
    })
  }

  /** Opens the demo app. */
  static async open({ context, user = 'demo-user', expectedErrors, before, ...options } = {}) {
    context ??= await browser.newContext({ viewport: { width: 1100, height: 800 }, ...options })
    const app = new App(await context.newPage(), expectedErrors)
    await before?.(app.page)
    await app.page.goto(stack.app)
    await app.page.waitForSelector('body[data-ready]')
    if (user !== 'demo-user') await app.page.selectOption('#user', user)
    return app
  }

  /** The page in which the user enters the PIN. */
  get frame() {
    return this.page.frameLocator('#sdkIframe')
  }

  /** The same as a frame that can run scripts, for `isAccessible`. */
  get pinPage() {
    return this.page.frames().find((frame) => frame.url().startsWith(stack.pinPage))
  }

  async press(name) {
    await this.page.getByRole('button', { name, exact: true }).click()
  }

  async headline(text) {
    await this.frame.getByRole('heading', { name: text }).waitFor()
  }

  async enter(digits) {
    await this.frame.locator('#pin').pressSequentially(digits)
  }

  /** Enters the current PIN, and twice a new one. */
  async changePin(pin = PIN, newPin = NEW_PIN) {
    await this.headline('Enter your PIN')
    await this.enter(pin)
    await this.chooseNewPin(newPin)
  }

  async chooseNewPin(newPin = NEW_PIN) {
    await this.headline('Choose a new PIN')
    await this.enter(newPin)
    await this.headline('Confirm your new PIN')
    await this.enter(newPin)
  }

  async answer(...answers) {
    await this.headline('Answer your security questions')
    for (const [index, answer] of answers.entries()) await this.frame.locator(`#answer-${index}`).fill(answer)
    await this.frame.getByRole('button', { name: 'Continue' }).click()
  }

  /** Waits until the page for the PIN rejects an entry with this text. */
  async rejects(text) {
    await this.frame.getByRole('alert').filter({ hasText: text }).waitFor()
  }

  /** Waits until the app shows this text. */
  async shows(text) {
    await this.page.locator('#message', { hasText: text }).waitFor()
  }

  /** Waits until the time line has an entry with this text. */
  async hasHappened(text) {
    await this.page.locator('#timeline summary', { hasText: text }).first().waitFor()
  }

  async isAccessible(frame = this.page.mainFrame()) {
    await frame.evaluate(axe)
    const { violations } = await frame.evaluate(() => globalThis.axe.run())
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(', ')}`), [])
  }

  async screenshot(name) {
    await this.page.screenshot({ path: `${screenshots}${name}.png` })
  }

  async close() {
    await this.page.close()
    assert.deepEqual(this.problems, [])
  }
}

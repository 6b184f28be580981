// A stand-in for Circle's page in the Web SDK's frame. It speaks the protocol of the SDK 1.1.11, and tells the
// simulator what the user does. Circle does not document how its own page behaves beyond that.

import { control, until, window } from './page.js'

const CIRCLE = 'https://pw-auth.circle.com'

/** The frames that the SDK has opened. */
export const frames = []

new window.MutationObserver((records) => {
  for (const node of records.flatMap((record) => [...record.addedNodes])) frames.push(new Frame(node))
}).observe(window.document.body, { childList: true })

/** The frame in which Circle asks for the PIN, as soon as the SDK has told it what to do. */
export async function openFrame() {
  const frame = await until(() => frames.at(-1))
  await until(() => frame.task)
  return frame
}

class Frame {
  constructor(element) {
    this.element = element
    this.url = element.src
    element.contentWindow.addEventListener('message', (event) => {
      this.task = event.data.w3s
      this.send({ showUi: true })
    })
    this.send({ onFrameReady: true })
  }

  get isOpen() {
    return this.element.isConnected
  }

  /** Sends a message to the SDK. jsdom's `postMessage` does not set the origin, which the SDK checks. */
  send(data) {
    window.dispatchEvent(new window.MessageEvent('message', { data, origin: CIRCLE }))
  }

  act(action, body) {
    return control('POST', `/challenges/${this.task.challenge.challengeId}/${action}`, body)
  }

  /** The user enters the PIN and a new one. The SDK learns of it from `report`. */
  enterPin(pin, newPin) {
    return this.act('pin', { pin, newPin })
  }

  async cancel() {
    await this.act('cancel')
    this.send({ onError: true, error: { code: 155701, message: 'User canceled' } })
    this.send({ onClose: true })
  }

  complete() {
    this.send({ onComplete: true, result: { type: 'CHANGE_PIN', status: 'COMPLETE' } })
  }

  rejectPin() {
    this.send({ onError: true, error: { code: 155112, message: 'The PIN is wrong' } })
  }
}

/** The time line: what happened, in order. A click on an entry shows the whole message. */

const list = document.querySelector('#timeline') as HTMLOListElement

export type Source = 'app' | 'circle' | 'record' | 'event'

const NAMES: Record<Source, string> = {
  app: 'App',
  circle: 'Webhook',
  record: 'Record',
  event: 'Event',
}

/** Adds an entry at the end. `message` is shown when the user opens the entry. */
export function add(source: Source, title: string, message: unknown, isProblem = false) {
  const details = document.createElement('details')
  const summary = document.createElement('summary')
  const name = document.createElement('span')
  const what = document.createElement('span')
  const text = document.createElement('pre')
  name.className = 'source'
  name.textContent = NAMES[source]
  what.className = 'what'
  what.textContent = title
  text.textContent = JSON.stringify(message, null, 2)
  text.tabIndex = 0
  summary.append(name, ' ', what)
  details.append(summary, text)
  const entry = document.createElement('li')
  entry.className = isProblem ? `${source} problem` : source
  entry.append(details)
  // Somebody who reads an older entry stays there.
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 10
  list.append(entry)
  if (isAtEnd) list.scrollTop = list.scrollHeight
}

export function clear() {
  list.replaceChildren()
}

/** Shows each call of the API, without the secrets in it. */
export function watchRequests(apiUrl: string) {
  const { fetch } = window
  window.fetch = async (input, options = {}) => {
    const url = String(input)
    if (!url.startsWith(apiUrl)) return fetch(input, options)
    const { method = 'GET', headers, body } = options
    const request = { method, path: url.slice(apiUrl.length), headers: withoutSecrets(headers), body: parsed(body) }
    const call = `${method} ${request.path.replace(/[0-9a-f-]{36}/, '…')}`
    try {
      const response = await fetch(input, options)
      const json = await response.clone().json().catch(() => undefined)
      const status = json?.status && response.ok ? `: ${json.status}` : ''
      add('app', `${call} → ${response.status}${status}`, { request, response: withoutSecrets(json) }, !response.ok)
      return response
    } catch (error) {
      add('app', `${call} → no response`, { request, error: String(error) }, true)
      throw error
    }
  }
}

/** Shows what the local stack reports: webhooks, records and events. */
export function watchStack(userId: () => string) {
  const feed = new EventSource('/feed')
  const messages: Record<string, (message: any) => void> = {
    webhook: (message) => {
      const { status } = message.body.notification ?? {}
      const result = message.attempt === 0 ? 'lost' : (message.status ?? message.error)
      const isProblem = message.status !== 200
      if (belongs(message.body.notification)) add('circle', `${status ?? 'test'} → ${result}`, message, isProblem)
    },
    record: (record) => {
      if (belongs(record)) add('record', `${record.status}${record.settledBy ? ` by ${record.settledBy}` : ''}`, record)
    },
    event: (event) => {
      if (belongs(event.detail)) add('event', event['detail-type'], event)
    },
  }
  const belongs = (content?: { userId?: string }) => content?.userId === userId()
  for (const [name, show] of Object.entries(messages)) {
    feed.addEventListener(name, ({ data }) => show(JSON.parse(data)))
  }
}

const SECRETS = ['authorization', 'x-user-token', 'userToken', 'encryptionKey']

function withoutSecrets(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, SECRETS.includes(name) ? '…' : withoutSecrets(member)]),
  )
}

const parsed = (body: unknown) => (typeof body === 'string' ? JSON.parse(body) : undefined)

// The control page. It asks for the simulator's state once a second while somebody looks at it.

const element = (id) => document.getElementById(id)
const REFRESH_MILLISECONDS = 1000
const SILENT = 'The simulator does not respond.'

async function control(method, path, body) {
  const response = await fetch(`/control${path}`, { method, body: body && JSON.stringify(body) })
  const json = await response.json()
  if (!response.ok) throw new Error(json.error)
  return json
}

/** Runs an operation. Its error is shown until the next operation. */
async function operate(method, path, body) {
  let problem = ''
  await control(method, path, body).catch((error) => (problem = error.message))
  element('error').textContent = problem
  await refresh()
}

function node(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

const button = (text, method, path, body) =>
  node('button', { type: 'button', textContent: text, onclick: () => operate(method, path, body) })

/** Fills a table, unless nothing has changed: a new table would lose the focus. */
function fill(id, columns, rows) {
  const table = element(id)
  const content = JSON.stringify(rows.map(({ cells }) => cells))
  if (table.dataset.content === content) return
  table.dataset.content = content
  const head = node('tr', {}, ...columns.map((column) => node('th', { textContent: column, scope: 'col' })))
  const hasButtons = rows.some(({ buttons }) => buttons?.length)
  if (hasButtons) head.append(node('td'))
  const lines = rows.map(({ cells, buttons = [], isProblem }) => {
    const texts = cells.map((cell) => node('td', { textContent: cell ?? '' }))
    const actions = hasButtons ? [node('td', {}, node('div', { className: 'buttons' }, ...buttons))] : []
    return node('tr', { className: isProblem ? 'problem' : '' }, ...texts, ...actions)
  })
  table.replaceChildren(node('thead', {}, head), node('tbody', {}, ...lines))
  if (!rows.length) table.replaceChildren(node('tbody', {}, node('tr', {}, node('td', { textContent: 'none' }))))
}

function showUsers(users) {
  const rows = users.map(({ id, status, authMode, pinStatus, pinDetails, securityQuestionStatus }) => {
    const path = `/users/${encodeURIComponent(id)}`
    const buttons = [
      button('Lock the PIN', 'PATCH', path, { pinStatus: 'LOCKED' }),
      button('Unlock', 'PATCH', path, { pinStatus: 'ENABLED' }),
      button('End the sessions', 'POST', `${path}/forget-tokens`),
    ]
    const cells = [id, status, authMode, pinStatus, pinDetails?.lockedExpiryDate, securityQuestionStatus]
    return { cells, buttons: authMode === 'PIN' ? buttons : buttons.slice(2) }
  })
  fill('users', ['id', 'status', 'signs in by', 'PIN', 'locked until', 'security questions'], rows)
}

function showChallenges(challenges) {
  const rows = challenges.map(({ id, userId, type, status, errorCode, createDate }) => {
    const act = (text, action, body) => button(text, 'POST', `/challenges/${id}/${action}`, body)
    const entries =
      type === 'CHANGE_PIN'
        ? [act('Right PIN', 'pin', { correct: true }), act('Wrong PIN', 'pin', { correct: false })]
        : ['Right answers', 'Wrong answers'].map((text, wrong) =>
            act(text, 'security-questions', { correct: !wrong }),
          )
    const buttons = [...entries, act('Cancel', 'cancel'), act('Expire', 'expire')]
    const isOpen = ['PENDING', 'IN_PROGRESS'].includes(status)
    return { cells: [createDate, id, userId, type, status, errorCode], buttons: isOpen ? buttons : [] }
  })
  fill('challenges', ['created', 'id', 'user', 'type', 'status', 'code'], rows)
}

function showDeliveries(deliveries, held) {
  element('held').textContent = held === 1 ? '1 message is held.' : `${held} messages are held.`
  const rows = deliveries.map(({ date, notificationType, attempt, status, error, body }) => {
    const about = body.slice(0, 4000).match(/"status":\s?"(\w+)"/)?.[1]
    return { cells: [date, notificationType, about, attempt, status ?? error], isProblem: !(status >= 200 && status < 300) }
  })
  fill('deliveries', ['time', 'type', 'reports', 'attempt', 'result'], rows)
}

function showKnobs(knobs) {
  const form = element('knobs')
  for (const [name, value] of Object.entries(knobs)) {
    let input = form.elements.namedItem(name)
    if (!input) {
      input = node('input', { name, type: typeof value === 'boolean' ? 'checkbox' : 'text' })
      input.onchange = () => {
        const written = typeof value === 'boolean' ? input.checked : parsed(input.value)
        operate('PATCH', '/knobs', { [name]: written })
      }
      form.append(node('label', {}, name, input))
    }
    if (input === document.activeElement) continue
    if (typeof value === 'boolean') input.checked = value
    else input.value = typeof value === 'string' ? value : JSON.stringify(value)
  }
}

/** A knob's value is JSON, or a text without quotes. */
function parsed(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function showOperations(operations) {
  if (element('operations').children.length) return
  for (const { command, effect } of operations) {
    element('operations').append(
      node('dt', {}, node('code', { textContent: command })),
      node('dd', { textContent: effect }),
    )
  }
}

async function refresh() {
  const state = await control('GET', '/state').catch(() => undefined)
  const { textContent: problem } = element('error')
  element('error').textContent = state ? problem.replace(SILENT, '') : SILENT
  if (!state) return
  element('time').textContent = state.now.replace(/\.\d+/, '')
  showUsers(state.users)
  showChallenges(state.challenges)
  showDeliveries(state.deliveries, state.heldWebhooks)
  const subscriptions = state.subscriptions.map(({ id, endpoint, enabled, notificationTypes }) => ({
    cells: [id, endpoint, enabled ? 'enabled' : 'disabled', notificationTypes?.join(', ')],
  }))
  fill('subscriptions', ['id', 'endpoint', 'state', 'types'], subscriptions)
  fill('faults', ['fault'], state.faults.map((fault) => ({ cells: [JSON.stringify(fault)] })))
  fill('calls', ['call', 'count'], Object.entries(state.calls).map((cells) => ({ cells })))
  showKnobs(state.knobs)
  showOperations(state.operations)
}

for (const method of ['post', 'patch', 'delete']) {
  for (const one of document.querySelectorAll(`[data-${method}]`)) {
    const body = one.dataset.body && JSON.parse(one.dataset.body)
    one.onclick = () => operate(method.toUpperCase(), one.dataset[method], body)
  }
}
element('knobs').onsubmit = (event) => event.preventDefault()

async function follow() {
  if (document.visibilityState === 'visible') await refresh()
  setTimeout(follow, REFRESH_MILLISECONDS)
}
await follow()
document.body.dataset.ready = 'true'

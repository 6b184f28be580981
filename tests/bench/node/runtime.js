// A minimal Lambda runtime: polls for events and posts what the handler returns.

import { Agent, request } from 'node:http'

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':')
const agent = new Agent({ keepAlive: true, maxSockets: 1 })

function send(method, path, body) {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const call = request({ agent, host, port, method, path: `/2018-06-01/runtime/invocation/${path}`, headers }, (response) => {
      const chunks = []
      response.on('data', (chunk) => chunks.push(chunk))
      response.on('end', () => resolve({ headers: response.headers, body: Buffer.concat(chunks).toString() }))
    })
    call.on('error', reject)
    call.end(body)
  })
}

export async function run(handler) {
  for (;;) {
    const { headers, body } = await send('GET', 'next')
    const id = headers['lambda-runtime-aws-request-id']
    try {
      const response = await handler(JSON.parse(body), { awsRequestId: id })
      await send('POST', `${id}/response`, JSON.stringify(response))
    } catch (error) {
      await send('POST', `${id}/error`, JSON.stringify({ errorType: error.name, errorMessage: error.message }))
    }
  }
}

export function respond(statusCode, body) {
  return { statusCode, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
}

import { createPublicKey, verify } from 'node:crypto'
import { UpdateItemCommand } from '@aws-sdk/client-dynamodb'
import { circle, dynamodb, TableName } from './clients.js'
import { respond, run } from './runtime.js'

const keys = new Map()

async function publicKey(id) {
  let key = keys.get(id)
  if (!key) {
    const { data } = await circle.getNotificationSignature(id)
    key = createPublicKey({ key: Buffer.from(data.publicKey, 'base64'), format: 'der', type: 'spki' })
    keys.set(id, key)
  }
  return key
}

await run(async (event) => {
  const key = await publicKey(event.headers['x-circle-key-id'])
  const signature = Buffer.from(event.headers['x-circle-signature'], 'base64')
  if (!verify('sha256', Buffer.from(event.body), key, signature)) return respond(401, { code: 'invalid_signature' })
  const { notification } = JSON.parse(event.body)
  await dynamodb.send(new UpdateItemCommand({
    TableName,
    Key: { challengeId: { S: notification.id } },
    UpdateExpression: 'SET #status = :status, userId = if_not_exists(userId, :user)',
    ConditionExpression: 'attribute_not_exists(#status) OR #status <> :complete',
    ExpressionAttributeNames: { '#status': 'status' },
    ExpressionAttributeValues: {
      ':status': { S: notification.status },
      ':user': { S: notification.userId },
      ':complete': { S: 'COMPLETE' }
    }
  }))
  return respond(200, { outcome: 'applied' })
})

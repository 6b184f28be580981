import { PutItemCommand } from '@aws-sdk/client-dynamodb'
import { circle, dynamodb, TableName } from './clients.js'
import { respond, run } from './runtime.js'

await run(async (event, context) => {
  const userId = event.requestContext.authorizer.jwt.claims.sub
  const { type } = JSON.parse(event.body)
  const [session, found] = await Promise.all([circle.createUserToken({ userId }), circle.getUser({ userId })])
  if (found.data.user.pinStatus !== 'ENABLED') return respond(409, { code: 'pin_not_set' })
  const input = { userToken: session.data.userToken, idempotencyKey: context.awsRequestId }
  const created = type === 'RESTORE_PIN' ? await circle.restoreUserPin(input) : await circle.updateUserPin(input)
  const { challengeId } = created.data
  await dynamodb.send(new PutItemCommand({
    TableName,
    Item: { challengeId: { S: challengeId }, userId: { S: userId }, type: { S: type }, status: { S: 'PENDING' } }
  }))
  return respond(201, { challengeId, status: 'PENDING', session: session.data })
})

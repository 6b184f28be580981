import { UpdateItemCommand } from '@aws-sdk/client-dynamodb'
import { circle, dynamodb, TableName } from './clients.js'
import { respond, run } from './runtime.js'

await run(async (event) => {
  const userId = event.requestContext.authorizer.jwt.claims.sub
  const { data } = await circle.createUserToken({ userId })
  await dynamodb.send(new UpdateItemCommand({
    TableName,
    Key: { challengeId: { S: `user#${userId}` } },
    UpdateExpression: 'ADD tokens :one',
    ExpressionAttributeValues: { ':one': { N: '1' } }
  }))
  return respond(201, data)
})

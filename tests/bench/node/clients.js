// What every function keeps between invocations. The secret is read while Lambda initialises the function.

import { DynamoDBClient } from '@aws-sdk/client-dynamodb'
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { initiateUserControlledWalletsClient } from '@circle-fin/user-controlled-wallets'

const secrets = new SecretsManagerClient({})
const secret = await secrets.send(new GetSecretValueCommand({ SecretId: process.env.CIRCLE_API_KEY_SECRET_ID }))

export const circle = initiateUserControlledWalletsClient({
  apiKey: secret.SecretString,
  baseUrl: process.env.CIRCLE_BASE_URL
})
export const dynamodb = new DynamoDBClient({})
export const TableName = process.env.CHALLENGES_TABLE

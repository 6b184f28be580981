/** Circle's SDK, in a file of its own that the page loads when it is needed. */
export { W3SSdk } from '@circle-fin/w3s-pw-web-sdk'

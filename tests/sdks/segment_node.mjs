// The official Node SDK, unmodified: every call once, then a flush. Arguments: host, write key.
import { Analytics } from '@segment/analytics-node'

const [host, writeKey] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host, maxEventsInBatch: 4 })
const problems = []
analytics.on('error', (error) => problems.push(error))
const user = { userId: 'node-user', anonymousId: 'node-device' }
analytics.identify({ ...user, messageId: 'node-identify', traits: { age_band: '25-34' } })
analytics.track({ ...user, messageId: 'node-track', event: 'Logged In', properties: { screen: 'home' } })
analytics.page({ ...user, messageId: 'node-page', name: 'Home' })
analytics.screen({ ...user, messageId: 'node-screen', name: 'Home' })
analytics.group({ ...user, messageId: 'node-group', groupId: 'acme', traits: { seats: 3 } })
analytics.alias({ userId: 'node-user', previousId: 'node-old', messageId: 'node-alias' })
await analytics.closeAndFlush({ timeout: 20_000 })
console.log(JSON.stringify(problems.map(String)))

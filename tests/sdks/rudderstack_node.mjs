// RudderStack's official Node SDK, unmodified: every call once, then a flush. Arguments: host, write key.
import RudderAnalytics from '@rudderstack/rudder-sdk-node'

const [host, writeKey] = process.argv.slice(2)
const analytics = new (RudderAnalytics.default ?? RudderAnalytics)(writeKey, { dataPlaneUrl: host, flushInterval: 500 })
const user = { userId: 'rudder-user', anonymousId: 'rudder-device' }
const problems = []
const sent = (error) => error && problems.push(error)
analytics.identify({ ...user, messageId: 'rudder-identify', traits: { age_band: '25-34' } }, sent)
analytics.track({ ...user, messageId: 'rudder-track', event: 'Logged In', properties: { screen: 'home' } }, sent)
analytics.page({ ...user, messageId: 'rudder-page', name: 'Home' }, sent)
analytics.screen({ ...user, messageId: 'rudder-screen', name: 'Home' }, sent)
analytics.group({ ...user, messageId: 'rudder-group', groupId: 'acme' }, sent)
analytics.alias({ userId: 'rudder-user', previousId: 'rudder-old', messageId: 'rudder-alias' }, sent)
await analytics.flush()
console.log(JSON.stringify(problems.map(String)))
process.exit(0)

import { MAPPING_PROTOCOLS } from '../../src/net/protocol.ts';
import { portMapperContract } from './port-mapper.ts';

for (const protocol of MAPPING_PROTOCOLS) portMapperContract(protocol);
